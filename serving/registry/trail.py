"""What the audit says: the history of a name, pages of a tenant's, and where an alias has been."""

import json
import re
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from serving.registry.lookup import name_is
from serving.registry.records import AliasMove, AuditEntry
from serving.registry.tables import AUDIT

_MOVED = re.compile(r"version (?P<after>\d+)(?:, was version (?P<before>\d+))?|was version (?P<removed>\d+)")


def read_history(connection: Connection, key: tuple[str, str, str], limit: int) -> tuple[AuditEntry, ...]:
    """Audit rows of one (tenant, space, name), newest first."""
    return _entries(connection, select(AUDIT).where(name_is(AUDIT, key)).limit(limit))


def read_page(
    connection: Connection,
    tenant: str | None,
    *,
    after: int,
    limit: int,
    space: str | None = None,
    name: str | None = None,
    action: str | None = None,
) -> tuple[AuditEntry, ...]:
    """Audit rows newest first, from below the sequence number `after` (0: from the newest); None is all of them."""
    wanted = {"tenant": tenant, "space": space, "name": name, "action": action}
    query = select(AUDIT).where(*(AUDIT.c[column] == value for column, value in wanted.items() if value is not None))
    if after > 0:
        query = query.where(AUDIT.c.id < after)
    return _entries(connection, query.limit(limit))


def read_moves(
    connection: Connection, key: tuple[str, str, str], alias: str | None, limit: int
) -> tuple[AliasMove, ...]:
    """The last steps of a name's aliases, or of one of them, newest first."""
    query = select(AUDIT).where(name_is(AUDIT, key), AUDIT.c.action.in_(("alias", "unalias"))).limit(limit)
    if alias is not None:
        query = query.where(AUDIT.c.subject == f"{key[2]}@{alias}")
    return tuple(_move(entry) for entry in _entries(connection, query))


def _entries(connection: Connection, query: Select[Any]) -> tuple[AuditEntry, ...]:
    return tuple(_entry(row) for row in connection.execute(query.order_by(AUDIT.c.id.desc())))


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        at=row.at,
        actor=row.actor,
        tenant=row.tenant,
        action=row.action,
        subject=row.subject,
        detail=row.detail,
        space=row.space,
        name=row.name,
        before=row.before,
        after=row.after,
        request_id=row.request_id,
        sequence=row.id,
    )


def _move(entry: AuditEntry) -> AliasMove:
    alias = entry.subject.partition("@")[2]
    if entry.before or entry.after:
        before, after = _version(entry.before), _version(entry.after)
    else:  # a row of the first release, which said it in words
        match = _MOVED.fullmatch(entry.detail)
        assert match is not None, f"the audit row {entry.sequence} of an alias says nothing of versions"
        before, after = _number(match["before"] or match["removed"]), _number(match["after"])
    return AliasMove(entry.at, entry.actor, alias, before, after, entry.request_id)


def _version(told: str) -> int | None:
    return json.loads(told)["version"] if told else None


def _number(told: str | None) -> int | None:
    return None if told is None else int(told)
