"""Marks of what is being removed; and whose a blob store is, since when, and which releases may work with this schema."""

import time
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_OLDEST = revision  # a release before knows of no marks: it would publish bytes while they are removed


def upgrade() -> None:
    """Add two tables; a registry that was never written to has known of marks from the beginning."""
    op.create_table(
        "doomed",
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("until", sa.Float(53), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_doomed"),
    )
    origin = op.create_table(
        "origin",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("registry", sa.String(32), nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.Column("oldest", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_origin"),
        sa.CheckConstraint("id = 1", name="ck_origin_one_row"),
    )
    written = op.get_bind().execute(sa.text("SELECT revision FROM meta")).scalar_one()
    since = time.time() if written else 0.0
    op.bulk_insert(origin, [{"id": 1, "registry": uuid.uuid4().hex, "since": since, "oldest": _OLDEST}])
