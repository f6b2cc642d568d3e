"""Rows to frozen records: names with all that hangs on them, and what changed since a revision."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, or_, select

from adapters.manifest import Manifest
from adapters.refs import AdapterRef
from serving.registry.records import NameRecord, Quota, Space, Version
from serving.registry.tables import (
    ACTIVE_EMBEDDINGS,
    ALIASES,
    META,
    NAMES,
    PINS,
    QUARANTINE,
    TAGS,
    TENANTS,
    VERSIONS,
)

NameKey = tuple[str, Space, str]  # tenant, space, name
ParseManifest = Callable[[str], Manifest]
Held = Callable[[NameKey], NameRecord | None]  # what a reader knows of a name already, however old
_FEW = 16  # versions that are read one by one rather than with all others of their names


@dataclass(frozen=True)
class Delta:
    """Everything that changed after a revision, up to `revision`; None is a name that has no version left."""

    revision: int
    names: Mapping[NameKey, NameRecord | None]
    active: Mapping[str, str | None]  # tenant -> active token embedding
    last: Mapping[NameKey, int] = field(default_factory=dict)  # of a name without versions: its highest number ever
    quotas: Mapping[str, Quota | None] = field(default_factory=dict)  # None is a tenant that was deleted


def read_revision(connection: Connection) -> int:
    """The registry's revision."""
    revision: int = connection.execute(select(META.c.revision)).scalar_one()
    return revision


def nothing_held(_: NameKey) -> None:
    """What a reader knows that has read nothing yet."""
    return


def read_delta(connection: Connection, since: int, parse: ParseManifest, held: Held = nothing_held) -> Delta:
    """What changed after revision `since`; 0 reads all. `connection` must be a read transaction."""
    revision = read_revision(connection)
    if revision == since:
        return Delta(since, {}, {})
    changed = NAMES.c.revision > since
    names = read_names(connection, changed, parse, held)
    numbers = connection.execute(select(NAMES).where(changed))
    active = select(ACTIVE_EMBEDDINGS.c.tenant, ACTIVE_EMBEDDINGS.c.name).where(ACTIVE_EMBEDDINGS.c.revision > since)
    tenants = connection.execute(select(TENANTS).where(TENANTS.c.revision > since))
    return Delta(
        revision,
        names,
        {row.tenant: row.name for row in connection.execute(active)},
        {_key(row): row.next_version - 1 for row in numbers if names[_key(row)] is None},
        {row.name: None if row.deleted else quota_of(row) for row in tenants},
    )


def read_name(connection: Connection, key: NameKey, parse: ParseManifest) -> NameRecord | None:
    """One name, or None where it has no version."""
    return read_names(connection, name_is(NAMES, key), parse).get(key)


def read_version(connection: Connection, key: NameKey, number: int, parse: ParseManifest) -> Version | None:
    """One version, however many its name has."""
    name = name_is(NAMES, key)
    tags = {row.tag: row.value for row in _rows_of(connection, TAGS, and_(name, TAGS.c.version == number))}
    rows = _versions(connection, and_(name, VERSIONS.c.version == number))
    return _version(rows[0], parse, tags) if rows else None


def read_names(
    connection: Connection, where: ColumnElement[bool], parse: ParseManifest, held: Held = nothing_held
) -> dict[NameKey, NameRecord | None]:
    """Names that meet a condition on `names`, in six queries however many they are.

    A version never changes: what `held` has of a name is not read again.
    """
    aliases: defaultdict[NameKey, dict[str, int]] = defaultdict(dict)
    pinned: defaultdict[NameKey, set[int]] = defaultdict(set)
    for row in _rows_of(connection, ALIASES, where):
        aliases[_key(row)][row.alias] = row.version
    for row in _rows_of(connection, PINS, where):
        pinned[_key(row)].add(row.version)
    versions = _read_versions(connection, where, parse, held)
    found: dict[NameKey, NameRecord | None] = {}
    for row in connection.execute(select(NAMES).where(where)):
        key = _key(row)
        ordered = tuple(sorted(versions[key], key=lambda version: version.ref.version))
        last = row.next_version - 1
        record = NameRecord(*key, ordered, aliases[key], frozenset(pinned[key]), row.revision, last)
        found[key] = record if ordered else None
    return found


def _read_versions(
    connection: Connection, where: ColumnElement[bool], parse: ParseManifest, held: Held
) -> defaultdict[NameKey, list[Version]]:
    """The versions of names that meet a condition, in no order; of what is held, only what was said of it since."""
    tags: dict[tuple[NameKey, int], dict[str, str]] = {}
    for row in _rows_of(connection, TAGS, where):
        tags.setdefault((_key(row), row.version), {})[row.tag] = row.value
    found: defaultdict[NameKey, list[Version]] = defaultdict(list)
    mine: dict[NameKey, dict[int, Version]] = {}
    lacking: set[tuple[NameKey, int]] = set()
    for tenant, space, name, number, digest, reason in connection.execute(_NUMBERS.where(where)):
        key = (tenant, space, name)
        if key not in mine:
            record = held(key)
            mine[key] = {} if record is None else {version.ref.version: version for version in record.versions}
        version, own = mine[key].get(number), tags.get((key, number), {})
        # After a failover a number can have come again, with other bytes.
        if version is None or version.ref.digest != digest:
            lacking.add((key, number))
            continue
        said = (version.tags, version.quarantined) == (own, reason)
        found[key].append(version if said else replace(version, tags=own, quarantined=reason))
    if lacking:
        few = or_(*(_version_is(key, number) for key, number in lacking)) if len(lacking) <= _FEW else where
        for row in _versions(connection, few):
            key = _key(row)
            if (key, row.version) in lacking:
                found[key].append(_version(row, parse, tags.get((key, row.version), {})))
    return found


def read_quota(connection: Connection, tenant: str) -> Quota:
    """What a tenant may use now."""
    mine = and_(TENANTS.c.name == tenant, TENANTS.c.deleted.is_(False))
    row = connection.execute(select(TENANTS).where(mine)).one_or_none()
    return Quota() if row is None else quota_of(row)


def quota_of(row: Row[Any]) -> Quota:
    """The quota in a row of `tenants`."""
    return Quota(**{column.name: getattr(row, column.name) for column in fields(Quota)})


def name_is(table: Table, key: tuple[str, str, str]) -> ColumnElement[bool]:
    """The condition that a row of any table belongs to a name."""
    tenant, space, name = key
    return and_(table.c.tenant == tenant, table.c.space == space, table.c.name == name)


def _rows_of(connection: Connection, table: Table, where: ColumnElement[bool]) -> list[Row[Any]]:
    return list(connection.execute(select(table).join(NAMES, _same_name(table)).where(where)))


def _versions(connection: Connection, where: ColumnElement[bool]) -> list[Row[Any]]:
    query = (
        select(VERSIONS, QUARANTINE.c.reason)
        .join(NAMES, _same_name(VERSIONS))
        .outerjoin(QUARANTINE, QUARANTINE.c.digest == VERSIONS.c.digest)
        .where(where)
    )
    return list(connection.execute(query))


def _version_is(key: NameKey, number: int) -> ColumnElement[bool]:
    return and_(name_is(VERSIONS, key), VERSIONS.c.version == number)


def _same_name(table: Table) -> ColumnElement[bool]:
    return and_(table.c.tenant == NAMES.c.tenant, table.c.space == NAMES.c.space, table.c.name == NAMES.c.name)


def _key(row: Row[Any]) -> NameKey:
    return (row.tenant, cast("Space", row.space), row.name)


def _version(row: Row[Any], parse: ParseManifest, tags: dict[str, str]) -> Version:
    ref = AdapterRef(row.tenant, row.name, row.version, row.digest)
    space, manifest = cast("Space", row.space), parse(row.manifest)
    return Version(ref, space, manifest, row.nbytes, row.created, row.created_by, tags, row.reason)


_NUMBERS = (  # what tells whether a version is known already, without its manifest
    select(VERSIONS.c.tenant, VERSIONS.c.space, VERSIONS.c.name, VERSIONS.c.version, VERSIONS.c.digest)
    .add_columns(QUARANTINE.c.reason)
    .join(NAMES, _same_name(VERSIONS))
    .outerjoin(QUARANTINE, QUARANTINE.c.digest == VERSIONS.c.digest)
)
