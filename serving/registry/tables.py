"""The schema of the registry, as SQLAlchemy tables; `migrations/` builds exactly this.

Every row that a gateway follows carries `revision`: the registry's revision of its last change. A delta is then one
indexed query (`revision > seen`), and nothing grows but the audit and the tombstones. Rows of `names` and `tenants` stay
when all versions, or the tenant, are deleted: numbers are never used twice, and the deletion itself travels as a delta.

What came after the first release stands in tables of its own, cascades, or has a default, so that the release before
can still write beside this one.
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

ORIGIN = Table(  # one row: what is so of this database, and not of the registry that a backup of it becomes
    "origin",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("registry", String(32), nullable=False),  # its id, by which a blob store names whom it belongs to
    Column(
        "since", Float(53), nullable=False
    ),  # when releases that know of `doomed` took over; 0 is from the beginning
    Column("oldest", String(32), nullable=False),  # the first schema whose releases can work with the present one
    CheckConstraint("id = 1", name="one_row"),
)

DOOMED = Table(  # bytes that a collector removes: see `doom`
    "doomed",
    METADATA,
    Column("digest", String(71), primary_key=True),
    Column("until", Float(53), nullable=False),
    Column("revision", BigInteger, nullable=False),
)

LOCAL = (ORIGIN, DOOMED)  # no part of what a backup holds

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

BORROWED = Table(  # the same for members that belong to the tenant `public`
    "borrowed",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("member_tenant", _TENANT, nullable=False),
    Column("member_space", _SPACE, nullable=False),
    Column("member_name", _NAME, nullable=False),
    Column("member_version", Integer, nullable=False),
    PrimaryKeyConstraint(*_VERSION_KEY, "member_tenant", "member_space", "member_name", "member_version"),
    ForeignKeyConstraint(_VERSION_KEY, _REFERRED, ondelete="CASCADE"),
    ForeignKeyConstraint(
        ("member_tenant", "member_space", "member_name", "member_version"), _REFERRED, name="fk_borrowed_member"
    ),
    Index("ix_borrowed_member", "member_tenant", "member_space", "member_name", "member_version"),
)

TAGS = Table(
    "tags",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("tag", String(128), nullable=False),
    Column("value", Text, nullable=False),
    PrimaryKeyConstraint(*_VERSION_KEY, "tag"),
    ForeignKeyConstraint(_VERSION_KEY, _REFERRED, ondelete="CASCADE"),
)

TOMBSTONES = Table(  # what is left of a retired version
    "tombstones",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),
    Column("name", _NAME, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False),
    PrimaryKeyConstraint(*_VERSION_KEY),
    ForeignKeyConstraint(_NAME_KEY, ["names.tenant", "names.space", "names.name"]),
)

QUARANTINE = Table(  # bytes that are not to be trusted, whoever has names for them
    "quarantine",
    METADATA,
    Column("digest", String(71), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", Float(53), nullable=False),
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
    Column("expires", Float(53)),  # NULL is never
    Column("rotated_from", String(32)),  # the key that this one takes the place of
    Index(None, "revision"),
    Index(None, "tenant"),
)

TENANTS = Table(  # a tenant without a row, or with a deleted one, has the default quota
    "tenants",
    METADATA,
    Column("name", _TENANT, primary_key=True),
    Column("weight", Float(53), nullable=False),
    Column("requests_per_s", Float(53)),  # NULL is without a limit, here and below
    Column("cost_per_s", Float(53)),
    Column("concurrency", Integer),
    Column("adapters", Integer),
    Column("nbytes", BigInteger),
    Column("device_floor", BigInteger, nullable=False),
    Column("device_ceiling", BigInteger),
    Column("created", Float(53), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index(None, "revision"),
)

IDEMPOTENCY = Table(  # answers of writes that a caller may ask for again; rows of a day ago are garbage
    "idempotency",
    METADATA,
    Column("tenant", _TENANT, nullable=False),
    Column("key", String(128), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    PrimaryKeyConstraint("tenant", "key"),
    Index(None, "at"),
)

AUDIT = Table(  # append-only: a trigger refuses the rest
    "audit",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float(53), nullable=False),
    Column("actor", Text, nullable=False),
    Column("tenant", _TENANT, nullable=False),
    Column("space", _SPACE, nullable=False),  # "adapter", "embedding", "key", "tenant" or "backbone"
    Column("name", _NAME, nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("before", Text, nullable=False, server_default=""),  # small JSON, or nothing; so is `after`
    Column("after", Text, nullable=False, server_default=""),
    Column("request_id", Text, nullable=False, server_default=""),
    Index(None, "tenant", "space", "name"),
    Index(None, "tenant", "id"),
)
