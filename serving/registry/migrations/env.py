"""Alembic's hook: runs the steps on the connection, and in the transaction, that `serving.registry.database` opened."""

from alembic import context

from serving.registry.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
