"""The first schema: names, versions, aliases, pins, active embeddings, keys, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NAME = (
    ("tenant", sa.String(64)),
    ("space", sa.String(16)),
    ("name", sa.String(128)),
)
_VERSIONS = ["versions.tenant", "versions.space", "versions.name", "versions.version"]


def upgrade() -> None:
    """Create every table, the one row of `meta`, and the triggers that keep history as it was."""
    _meta()
    _names()
    _holders()
    _keys_and_audit()
    _freeze("versions", "UPDATE")
    _freeze("audit", "UPDATE")
    _freeze("audit", "DELETE")


def _meta() -> None:
    meta = op.create_table(
        "meta",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("backbone_id", sa.Text),
        sa.Column("backbone_digest", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_meta"),
        sa.CheckConstraint("id = 1", name="ck_meta_one_row"),
    )
    op.bulk_insert(meta, [{"id": 1, "revision": 0}])


def _names() -> None:
    op.create_table(
        "names",
        *_name_columns(),
        sa.Column("next_version", sa.Integer, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "space", "name", name="pk_names"),
    )
    op.create_index("ix_names_revision", "names", ["revision"])
    op.create_table(
        "versions",
        *_name_columns(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("nbytes", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "space", "name", "version", name="pk_versions"),
        sa.ForeignKeyConstraint(
            ["tenant", "space", "name"], ["names.tenant", "names.space", "names.name"], name="fk_versions_names"
        ),
    )
    op.create_index("ix_versions_digest", "versions", ["digest"])


def _holders() -> None:
    version = ["tenant", "space", "name", "version"]
    op.create_table(
        "aliases",
        *_name_columns(),
        sa.Column("alias", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "space", "name", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(version, _VERSIONS, name="fk_aliases_versions"),
    )
    op.create_table(
        "pins",
        *_name_columns(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint(*version, name="pk_pins"),
        sa.ForeignKeyConstraint(version, _VERSIONS, name="fk_pins_versions"),
    )
    op.create_table(
        "active_embeddings",
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128)),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_active_embeddings"),
    )
    op.create_index("ix_active_embeddings_revision", "active_embeddings", ["revision"])


def _keys_and_audit() -> None:
    op.create_table(
        "keys",
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("revoked", sa.Boolean, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name="pk_keys"),
    )
    op.create_index("ix_keys_revision", "keys", ["revision"])
    op.create_index("ix_keys_tenant", "keys", ["tenant"])
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        *_name_columns(),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant_space_name", "audit", ["tenant", "space", "name"])


def _name_columns() -> list["sa.Column[str]"]:
    return [sa.Column(name, kind, nullable=False) for name, kind in _NAME]


def _freeze(table: str, verb: str) -> None:
    """Refuse `verb` on a table by trigger, so that no later code can rewrite history by mistake."""
    name, message = f"{table}_no_{verb.lower()}", f"rows of {table} never change"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{message}'); END")
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION '{message}'; END $$ LANGUAGE plpgsql"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
