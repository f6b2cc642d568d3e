"""The schema of the registry, as SQLAlchemy tables; `migrations/` builds exactly this.

Every row that a gateway follows carries `revision`: the registry's revision of its last change. A delta is then one
indexed query (`revision > seen`), and nothing grows but the audit. Rows of `names` stay when all versions are deleted,
so that version numbers are never used twice and the deletion itself travels as a delta.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
_TENANT, _SPACE, _NAME = String(64), String(16), String(128)
_NAME_KEY = ("tenant", "space", "name")

META = Table(  # one row
    "meta",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("backbone_id", Text),
    Column("backbone_digest", Text),
    CheckConstraint("id = 1", name="one_row"),
)

NAMES = Table(
    "names",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("next_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    PrimaryKeyConstraint(*_NAME_KEY),
    Index(None, "revision"),
)

VERSIONS = Table(  # never updated: a trigger refuses it
    "versions",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("nbytes", BigInteger, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("created_by", Text, nullable=False),
    PrimaryKeyConstraint(*_NAME_KEY, "version"),
    ForeignKeyConstraint(_NAME_KEY, ["names.tenant", "names.space", "names.name"]),
    Index(None, "digest"),
)

_VERSION_KEY = (*_NAME_KEY, "version")
_REFERRED = ["versions.tenant", "versions.space", "versions.name", "versions.version"]

ALIASES = Table(
    "aliases",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("alias", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint(*_NAME_KEY, "alias"),
    ForeignKeyConstraint(_VERSION_KEY, _REFERRED),
)

PINS = Table(
    "pins",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint(*_VERSION_KEY),
    ForeignKeyConstraint(_VERSION_KEY, _REFERRED),
)

MEMBERS = Table(  # a version of a target, and each version that it is made of: these can not be deleted before it
    "members",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("member_space", _SPACE, nullable=False),
    Column("member_name", _NAME, nullable=False),
    Column("member_version", Integer, nullable=False),
    PrimaryKeyConstraint(*_VERSION_KEY, "member_space", "member_name", "member_version"),
    ForeignKeyConstraint(_VERSION_KEY, _REFERRED),
    ForeignKeyConstraint(
        ("tenant", "member_space", "member_name", "member_version"), _REFERRED, name="fk_members_member"
    ),
    Index("ix_members_member", "tenant", "member_space", "member_name", "member_version"),
)

ACTIVE_EMBEDDINGS = Table(  # name NULL is the backbone's own vocabulary
    "active_embeddings",
    METADATA,
    Column("tenant", _TENANT, primary_key=True),
    Column("name", _NAME),
    Column("revision", BigInteger, nullable=False),
    Index(None, "revision"),
)

KEYS = Table(
    "keys",
    METADATA,
    Column("key_id", String(32), primary_key=True),
    Column("tenant", _TENANT, nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("scopes", Text, nullable=False),  # sorted, separated by spaces
    Column("label", Text, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(None, "revision"),
    Index(None, "tenant"),
)

AUDIT = Table(  # append-only: a trigger refuses the rest
    "audit",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False),
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),  # "adapter", "embedding" or "key"
    Column("name", _NAME, nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Index(None, "tenant", "space", "name"),
)
