"""Rows to frozen records: names with all that hangs on them, and what changed since a revision."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, select

from adapters.manifest import Manifest
from adapters.refs import AdapterRef
from serving.registry.records import AuditEntry, NameRecord, Space, Version
from serving.registry.tables import ACTIVE_EMBEDDINGS, ALIASES, AUDIT, META, NAMES, PINS, VERSIONS

NameKey = tuple[str, Space, str]  # tenant, space, name
ParseManifest = Callable[[str], Manifest]


@dataclass(frozen=True)
class Delta:
    """Everything that changed after a revision, up to `revision`; None is a name that has no version left."""

    revision: int
    names: Mapping[NameKey, NameRecord | None]
    active: Mapping[str, str | None]  # tenant -> active token embedding


def read_revision(connection: Connection) -> int:
    """The registry's revision."""
    revision: int = connection.execute(select(META.c.revision)).scalar_one()
    return revision


def read_delta(connection: Connection, since: int, parse: ParseManifest) -> Delta:
    """What changed after revision `since`; 0 reads all. `connection` must be a read transaction."""
    revision = read_revision(connection)
    if revision == since:
        return Delta(since, {}, {})
    active = select(ACTIVE_EMBEDDINGS.c.tenant, ACTIVE_EMBEDDINGS.c.name).where(ACTIVE_EMBEDDINGS.c.revision > since)
    return Delta(
        revision,
        read_names(connection, NAMES.c.revision > since, parse),
        {row.tenant: row.name for row in connection.execute(active)},
    )


def read_name(connection: Connection, key: NameKey, parse: ParseManifest) -> NameRecord | None:
    """One name, or None where it has no version."""
    return read_names(connection, name_is(NAMES, key), parse).get(key)


def read_names(
    connection: Connection, where: ColumnElement[bool], parse: ParseManifest
) -> dict[NameKey, NameRecord | None]:
    """Names that meet a condition on `names`, in four queries however many they are."""
    versions: defaultdict[NameKey, list[Version]] = defaultdict(list)
    aliases: defaultdict[NameKey, dict[str, int]] = defaultdict(dict)
    pinned: defaultdict[NameKey, set[int]] = defaultdict(set)
    for row in _rows_of(connection, VERSIONS, where):
        versions[_key(row)].append(_version(row, parse))
    for row in _rows_of(connection, ALIASES, where):
        aliases[_key(row)][row.alias] = row.version
    for row in _rows_of(connection, PINS, where):
        pinned[_key(row)].add(row.version)
    found: dict[NameKey, NameRecord | None] = {}
    for row in connection.execute(select(NAMES).where(where)):
        key = _key(row)
        ordered = tuple(sorted(versions[key], key=lambda version: version.ref.version))
        record = NameRecord(*key, ordered, aliases[key], frozenset(pinned[key]), row.revision)
        found[key] = record if ordered else None
    return found


def read_history(connection: Connection, key: NameKey, limit: int) -> tuple[AuditEntry, ...]:
    """Audit rows of one name, newest first."""
    query = select(AUDIT).where(name_is(AUDIT, key)).order_by(AUDIT.c.id.desc()).limit(limit)
    return tuple(
        AuditEntry(row.at, row.actor, row.tenant, row.action, row.subject, row.detail)
        for row in connection.execute(query)
    )


def name_is(table: Table, key: NameKey) -> ColumnElement[bool]:
    """The condition that a row of any table belongs to a name."""
    tenant, space, name = key
    return and_(table.c.tenant == tenant, table.c.space == space, table.c.name == name)


def _rows_of(connection: Connection, table: Table, where: ColumnElement[bool]) -> list[Row[Any]]:
    same_name = and_(table.c.tenant == NAMES.c.tenant, table.c.space == NAMES.c.space, table.c.name == NAMES.c.name)
    return list(connection.execute(select(table).join(NAMES, same_name).where(where)))


def _key(row: Row[Any]) -> NameKey:
    return (row.tenant, cast("Space", row.space), row.name)


def _version(row: Row[Any], parse: ParseManifest) -> Version:
    ref = AdapterRef(row.tenant, row.name, row.version, row.digest)
    return Version(ref, cast("Space", row.space), parse(row.manifest), row.nbytes, row.created, row.created_by)
