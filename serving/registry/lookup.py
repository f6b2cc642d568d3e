"""Rows to frozen records: names with all that hangs on them, and what changed since a revision.

What every publish asks is built once, with places for its values: SQLAlchemy takes four times as long to build a
statement, and to find it among those that it has compiled, as to run it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Self, cast

from sqlalchemy import ColumnElement, Connection, CursorResult, Row, Select, Table, and_, bindparam, or_, select

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
_FEW = 16  # versions that are read alone rather than with all others of their names


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
    revision: int = connection.execute(_REVISION).scalar_one()
    return revision


def nothing_held(_: NameKey) -> None:
    """What a reader knows that has read nothing yet."""
    return


def read_delta(connection: Connection, since: int, parse: ParseManifest, held: Held = nothing_held) -> Delta:
    """What changed after revision `since`; 0 reads all. `connection` must be a read transaction."""
    revision = read_revision(connection)
    if revision == since:
        return Delta(since, {}, {})
    seen = {"since": since}
    names, last = _read_names(connection, _CHANGED, seen, parse, held)
    return Delta(
        revision,
        names,
        {row.tenant: row.name for row in connection.execute(_CHANGED_ACTIVE, seen)},
        {key: number for key, number in last.items() if names[key] is None},
        {row.name: None if row.deleted else quota_of(row) for row in connection.execute(_CHANGED_TENANTS, seen)},
    )


def read_name(connection: Connection, key: NameKey, parse: ParseManifest) -> NameRecord | None:
    """One name, or None where it has no version."""
    return _read_names(connection, _ONE, of(key), parse)[0].get(key)


def read_version(connection: Connection, key: NameKey, number: int, parse: ParseManifest) -> Version | None:
    """One version, however many its name has."""
    it = {**of(key), "number": number}
    row = connection.execute(_ONE_VERSION, it).one_or_none()
    if row is None:
        return None
    return _version(row, parse, {tag.tag: tag.value for tag in connection.execute(_ITS_TAGS, it)})


@dataclass(frozen=True)
class _Questions:
    """What is asked of the names that meet a condition, and of all that hangs on them."""

    names: Select[Any]
    aliases: Select[Any]
    pins: Select[Any]
    tags: Select[Any]
    numbers: Select[Any]  # what tells whether a version is known already, without its manifest
    versions: Select[Any]

    @classmethod
    def where(cls, condition: ColumnElement[bool]) -> Self:
        """The questions about names that meet a condition on `names`."""
        hanging = [select(table).join(NAMES, _same_name(table)).where(condition) for table in (ALIASES, PINS, TAGS)]
        keys = (VERSIONS.c.tenant, VERSIONS.c.space, VERSIONS.c.name, VERSIONS.c.version, VERSIONS.c.digest)
        known, whole = select(*keys, QUARANTINE.c.reason), select(VERSIONS, QUARANTINE.c.reason)
        # The names come first: SQLite moves no table in front of an outer join, and would read all versions there are.
        of_names = [_and_quarantine(q.select_from(NAMES).join(VERSIONS, _same_name(VERSIONS))) for q in (known, whole)]
        return cls(select(NAMES).where(condition), *hanging, *(query.where(condition) for query in of_names))


def _read_names(
    connection: Connection,
    ask: _Questions,
    about: Mapping[str, Any],
    parse: ParseManifest,
    held: Held = nothing_held,
) -> tuple[dict[NameKey, NameRecord | None], dict[NameKey, int]]:
    """Names, and the highest number that each ever gave, in six queries however many they are.

    A version never changes: what `held` has of a name is not read again.
    """
    aliases: defaultdict[NameKey, dict[str, int]] = defaultdict(dict)
    pinned: defaultdict[NameKey, set[int]] = defaultdict(set)
    for row in connection.execute(ask.aliases, about):
        aliases[_key(row)][row.alias] = row.version
    for row in connection.execute(ask.pins, about):
        pinned[_key(row)].add(row.version)
    versions = _read_versions(connection, ask, about, parse, held)
    found: dict[NameKey, NameRecord | None] = {}
    last: dict[NameKey, int] = {}
    for row in connection.execute(ask.names, about):
        key = _key(row)
        ordered = tuple(sorted(versions[key], key=lambda version: version.ref.version))
        last[key] = row.next_version - 1
        record = NameRecord(*key, ordered, aliases[key], frozenset(pinned[key]), row.revision, last[key])
        found[key] = record if ordered else None
    return found, last


def _read_versions(
    connection: Connection, ask: _Questions, about: Mapping[str, Any], parse: ParseManifest, held: Held
) -> defaultdict[NameKey, list[Version]]:
    """The versions of the names asked for, in no order; of what is held, only what was said of it since."""
    tags: dict[tuple[NameKey, int], dict[str, str]] = {}
    for row in connection.execute(ask.tags, about):
        tags.setdefault((_key(row), row.version), {})[row.tag] = row.value
    found: defaultdict[NameKey, list[Version]] = defaultdict(list)
    mine: dict[NameKey, dict[int, Version]] = {}
    lacking: set[tuple[NameKey, int]] = set()
    for tenant, space, name, number, digest, reason in connection.execute(ask.numbers, about):
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
        for row in _lacking(connection, ask, about, lacking):
            key = _key(row)
            if (key, row.version) in lacking:
                found[key].append(_version(row, parse, tags.get((key, row.version), {})))
    return found


def _lacking(
    connection: Connection, ask: _Questions, about: Mapping[str, Any], lacking: Collection[tuple[NameKey, int]]
) -> CursorResult[Any]:
    """At least the rows of the versions that are lacking: a few of them alone, many with all of their names."""
    if len(lacking) > _FEW:
        return connection.execute(ask.versions, about)
    those = [dict(zip(_VERSION_COLUMNS, (*key, number), strict=True)) for key, number in lacking]
    places = {f"{column}_{place}": value for place, one in enumerate(those) for column, value in one.items()}
    return connection.execute(_these(len(those)), places)


@lru_cache(maxsize=_FEW)
def _these(count: int) -> Select[Any]:
    """So many versions. Not as rows in a list: SQLite would look for these through the whole table."""
    place_of = (
        and_(*(VERSIONS.c[column] == bindparam(f"{column}_{place}") for column in _VERSION_COLUMNS))
        for place in range(count)
    )
    return _VERSIONS.where(or_(*place_of))


def read_quota(connection: Connection, tenant: str) -> Quota:
    """What a tenant may use now."""
    row = connection.execute(_TENANT, {"tenant": tenant}).one_or_none()
    return Quota() if row is None else quota_of(row)


def quota_of(row: Row[Any]) -> Quota:
    """The quota in a row of `tenants`."""
    return Quota(**{column.name: getattr(row, column.name) for column in fields(Quota)})


def name_is(table: Table, key: tuple[str, str, str]) -> ColumnElement[bool]:
    """The condition that a row of any table belongs to a name."""
    tenant, space, name = key
    return and_(table.c.tenant == tenant, table.c.space == space, table.c.name == name)


def is_name(table: Table) -> ColumnElement[bool]:
    """The same as a place in a statement that is built once; `of(key)` are the values that it is run with."""
    return and_(*(table.c[column] == bindparam(f"its_{column}") for column in _COLUMNS))


def of(key: tuple[str, str, str]) -> dict[str, Any]:
    """What a statement with the condition `is_name` is run with."""
    tenant, space, name = key
    return {"its_tenant": tenant, "its_space": space, "its_name": name}


def _and_quarantine(query: Select[Any]) -> Select[Any]:
    return query.outerjoin(QUARANTINE, QUARANTINE.c.digest == VERSIONS.c.digest)


def _same_name(table: Table) -> ColumnElement[bool]:
    return and_(table.c.tenant == NAMES.c.tenant, table.c.space == NAMES.c.space, table.c.name == NAMES.c.name)


def _key(row: Row[Any]) -> NameKey:
    return (row.tenant, cast("Space", row.space), row.name)


def _version(row: Row[Any], parse: ParseManifest, tags: dict[str, str]) -> Version:
    ref = AdapterRef(row.tenant, row.name, row.version, row.digest)
    space, manifest = cast("Space", row.space), parse(row.manifest)
    return Version(ref, space, manifest, row.nbytes, row.created, row.created_by, tags, row.reason)


_COLUMNS = ("tenant", "space", "name")
_VERSION_COLUMNS = (*_COLUMNS, "version")
_VERSIONS = _and_quarantine(select(VERSIONS, QUARANTINE.c.reason).select_from(VERSIONS))
_REVISION = select(META.c.revision)
_CHANGED = _Questions.where(NAMES.c.revision > bindparam("since"))
_CHANGED_ACTIVE = select(ACTIVE_EMBEDDINGS).where(ACTIVE_EMBEDDINGS.c.revision > bindparam("since"))
_CHANGED_TENANTS = select(TENANTS).where(TENANTS.c.revision > bindparam("since"))
_ONE = _Questions.where(is_name(NAMES))
_ONE_VERSION = _VERSIONS.where(is_name(VERSIONS), VERSIONS.c.version == bindparam("number"))
_ITS_TAGS = select(TAGS).where(is_name(TAGS), TAGS.c.version == bindparam("number"))
_TENANT = select(TENANTS).where(TENANTS.c.name == bindparam("tenant"), TENANTS.c.deleted.is_(False))
