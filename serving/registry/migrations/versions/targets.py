"""What targets are made of: which version of a target holds which versions of other names."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table `members`."""
    op.create_table(
        "members",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("space", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("member_space", sa.String(16), nullable=False),
        sa.Column("member_name", sa.String(128), nullable=False),
        sa.Column("member_version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant",
            "space",
            "name",
            "version",
            "member_space",
            "member_name",
            "member_version",
            name="pk_members",
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "space", "name", "version"],
            ["versions.tenant", "versions.space", "versions.name", "versions.version"],
            name="fk_members_versions",
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "member_space", "member_name", "member_version"],
            ["versions.tenant", "versions.space", "versions.name", "versions.version"],
            name="fk_members_member",
        ),
    )
    op.create_index("ix_members_member", "members", ["tenant", "member_space", "member_name", "member_version"])
