"""Writes that are done once: the answer is kept with the write, in its transaction, and given again for a day."""

import json
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from adapters.manifest import to_json
from adapters.refs import AdapterRef
from serving.errors import Unprocessable
from serving.registry.change import Change
from serving.registry.lookup import ParseManifest
from serving.registry.records import Once, Published, Version
from serving.registry.tables import IDEMPOTENCY

_KEPT_S = 24 * 3600.0
_KEPT = select(IDEMPOTENCY).where(
    IDEMPOTENCY.c.tenant == bindparam("tenant"),
    IDEMPOTENCY.c.key == bindparam("key"),
    IDEMPOTENCY.c.at > bindparam("since"),
)
_FORGET = delete(IDEMPOTENCY).where(IDEMPOTENCY.c.at <= bindparam("until"))
_KEEP = insert(IDEMPOTENCY)


def recalled(
    connection: Connection, tenant: str, once: Once | None, at: float, parse: ParseManifest
) -> Published | None:
    """What was answered to this very write before; raises `Unprocessable` where its key was used for another one."""
    if once is None:
        return None
    row = connection.execute(_KEPT, {"tenant": tenant, "key": once.key, "since": at - _KEPT_S}).one_or_none()
    if row is None:
        return None
    if row.fingerprint != once.fingerprint:
        told = "this Idempotency-Key came with another request before: take a new one for a new request"
        raise Unprocessable(told, code="idempotency_key_reused")
    return _published(json.loads(row.answer), parse)


def remember(change: Change, tenant: str, once: Once | None, published: Published) -> None:
    """Keep the answer of a write, and forget those of yesterday."""
    if once is not None:
        change.execute(_FORGET, {"until": change.at - _KEPT_S})
        answer = json.dumps(_answer(published), separators=(",", ":"))
        row = {"tenant": tenant, "key": once.key, "fingerprint": once.fingerprint, "answer": answer, "at": change.at}
        change.execute(_KEEP, row)


def _answer(published: Published) -> dict[str, Any]:
    version = published.version
    return {
        "ref": [version.ref.tenant, version.ref.name, version.ref.version, version.ref.digest],
        "space": version.space,
        "manifest": to_json(version.manifest),
        "nbytes": version.nbytes,
        "created_at": version.created,
        "created_by": version.created_by,
        "tags": dict(version.tags),
        "created": published.created,
        "promoted": published.promoted,
    }


def _published(told: dict[str, Any], parse: ParseManifest) -> Published:
    version = Version(
        AdapterRef(*told["ref"]),
        told["space"],
        parse(told["manifest"]),
        told["nbytes"],
        told["created_at"],
        told["created_by"],
        told["tags"],
    )
    return Published(version, told["created"], told["promoted"])
