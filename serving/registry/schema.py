"""Which schema a database has, and which releases can work with it: steps only add, so that releases overlap.

Every schema says in `origin` which one is the oldest whose releases can work with it. A release that meets a later
schema than its own goes on where it is not older than that.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select

from serving.errors import Conflict
from serving.registry.tables import ORIGIN


def known() -> frozenset[str]:
    """Every schema that this release or one before it made."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def upgrade(connection: Connection, to: str = "head") -> None:
    """Bring a database to this release's schema, in the open transaction; a later one that suits it stays.

    Raises `Conflict` for a later one that does not.
    """
    if _suits(connection, MigrationContext.configure(connection).get_current_revision()):
        return
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def refuse_outdated(connection: Connection) -> None:
    """Raise `Conflict` for a database that would have to be brought to this release's schema before it can be used.

    One without a schema is not outdated: nobody uses it yet.
    """
    current = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if current not in (None, head) and not _suits(connection, current):
        raise Conflict(
            f"this registry has the schema {current} of an earlier release, and this one needs {head}: take that "
            "release's `chorus`, or start the service with this one first, which brings it up to date",
            code="older_registry",
        )


def _suits(connection: Connection, current: str | None) -> bool:
    """Whether this is a later schema that this release can work with; raises `Conflict` where it can not."""
    if current is None or current in known():
        return False
    oldest = None
    if inspect(connection).has_table(ORIGIN.name):
        oldest = connection.execute(select(ORIGIN.c.oldest)).scalar_one_or_none()
    if oldest not in known():
        raise Conflict(
            f"this registry was written by a newer release: its schema {current} is not for this one",
            code="newer_registry",
        )
    return True


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config
