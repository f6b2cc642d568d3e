"""Tenants, tags, tombstones, quarantine, idempotency and public members; audit and keys say more than they did."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_VERSION = ["tenant", "space", "name", "version"]
_VERSIONS = ["versions.tenant", "versions.space", "versions.name", "versions.version"]


def upgrade() -> None:
    """Add tables, and columns that may be left out: the release before writes on beside this one."""
    # First of all: it takes long over a long audit, and whatever is altered before it is closed to readers until its end.
    # Not CONCURRENTLY, which waits for the processes that wait for this transaction.
    op.create_index("ix_audit_tenant_id", "audit", ["tenant", "id"])
    _of_versions()
    _borrowed()
    _tenants()
    _idempotency()
    _audit_and_keys()


def _of_versions() -> None:
    op.create_table(
        "tags",
        *_version_columns(),
        sa.Column("tag", sa.String(128), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(*_VERSION, "tag", name="pk_tags"),
        sa.ForeignKeyConstraint(_VERSION, _VERSIONS, name="fk_tags_versions", ondelete="CASCADE"),
    )
    op.create_table(
        "tombstones",
        *_version_columns(),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(*_VERSION, name="pk_tombstones"),
        sa.ForeignKeyConstraint(
            ["tenant", "space", "name"], ["names.tenant", "names.space", "names.name"], name="fk_tombstones_names"
        ),
    )
    op.create_table(
        "quarantine",
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_quarantine"),
    )


def _borrowed() -> None:
    member = ["member_tenant", "member_space", "member_name", "member_version"]
    op.create_table(
        "borrowed",
        *_version_columns(),
        sa.Column("member_tenant", sa.String(64), nullable=False),
        sa.Column("member_space", sa.String(16), nullable=False),
        sa.Column("member_name", sa.String(128), nullable=False),
        sa.Column("member_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(*_VERSION, *member, name="pk_borrowed"),
        sa.ForeignKeyConstraint(_VERSION, _VERSIONS, name="fk_borrowed_versions", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(member, _VERSIONS, name="fk_borrowed_member"),
    )
    op.create_index("ix_borrowed_member", "borrowed", member)


def _tenants() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("weight", sa.Float(53), nullable=False),
        sa.Column("requests_per_s", sa.Float(53)),
        sa.Column("cost_per_s", sa.Float(53)),
        sa.Column("concurrency", sa.Integer),
        sa.Column("adapters", sa.Integer),
        sa.Column("nbytes", sa.BigInteger),
        sa.Column("device_floor", sa.BigInteger, nullable=False),
        sa.Column("device_ceiling", sa.BigInteger),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tenants"),
    )
    op.create_index("ix_tenants_revision", "tenants", ["revision"])


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at"])


def _audit_and_keys() -> None:
    for name in ("before", "after", "request_id"):
        op.add_column("audit", sa.Column(name, sa.Text, nullable=False, server_default=""))
    op.add_column("keys", sa.Column("expires", sa.Float(53)))
    op.add_column("keys", sa.Column("rotated_from", sa.String(32)))


def _version_columns() -> list["sa.Column[str] | sa.Column[int]"]:
    return [
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("space", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    ]
