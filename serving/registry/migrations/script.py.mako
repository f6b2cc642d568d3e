"""${message}."""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Apply this step; additive only, so that the previous release runs beside it."""
    ${upgrades if upgrades else "pass"}
