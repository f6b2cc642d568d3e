"""Versions: how one comes to be, and how it goes; its number is never given again."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from adapters.manifest import to_json
from adapters.refs import Reference
from serving.errors import Conflict, Unprocessable
from serving.registry.absence import missing_name, missing_selector
from serving.registry.allowance import refuse_over_quota
from serving.registry.change import Change, columns
from serving.registry.lookup import NameKey, is_name, name_is, of, read_version
from serving.registry.members import free, hold, refuse_held, refuse_other_kind
from serving.registry.quarantine import lift
from serving.registry.records import (
    DEFAULT_EMBEDDING,
    PUBLIC,
    CheckReport,
    Member,
    NameRecord,
    Space,
    Version,
    is_public,
)
from serving.registry.tables import NAMES, TOMBSTONES, VERSIONS

_ANY_MANIFEST = select(VERSIONS.c.manifest).where(is_name(VERSIONS)).limit(1)
_NEWEST_WITH = select(func.max(VERSIONS.c.version)).where(is_name(VERSIONS), VERSIONS.c.digest == bindparam("digest"))
_NEXT = select(NAMES.c.next_version).where(is_name(NAMES))
_COUNT = update(NAMES).where(is_name(NAMES)).values(next_version=bindparam("next"))
_NEW_NAME = insert(NAMES)
_NEW_VERSION = insert(VERSIONS)


def nameable(tenant: str, space: Space, name: str) -> NameKey:
    """The name that a tenant may publish under.

    Raises `Unprocessable` for a public one that is not its own, and `Conflict` for the embedding `default`.
    """
    _refuse_foreign(tenant, name)
    if space == "embedding" and name == DEFAULT_EMBEDDING:
        raise Conflict(f"{name!r} is the backbone's own vocabulary: publish under another name")
    return (tenant, space, name)


def owned(change: Change, tenant: str, space: Space, name: str) -> NameRecord:
    """The name that a tenant has and writes to; raises `NotFound`, and `Unprocessable` for a public one.

    What a tenant took under such a name before there was the rule is still its own, to be retired.
    """
    record = change.name((tenant, space, name))
    if record is None:
        _refuse_foreign(tenant, name)
        raise missing_name(space, name)
    return record


def _refuse_foreign(tenant: str, name: str) -> None:
    if is_public(name) != (tenant == PUBLIC):
        told = f"{name!r}: names that begin with {PUBLIC!r} belong to the tenant {PUBLIC!r}"
        if tenant == PUBLIC:
            told += f", whose names are all of these: write '{PUBLIC}/{name}'"
        else:
            told += ": take another name, or a key of that tenant"
        raise Unprocessable(told, code="public_name")


def publish(change: Change, key: NameKey, report: CheckReport, members: Sequence[Member]) -> tuple[int, bool]:
    """The number of these bytes under a name, and whether it is new.

    Raises `Conflict` for another kind or beyond the quota, and `NotFound` where a member is gone.
    """
    held = _held(change, key)
    refuse_other_kind(key[2], held, report.manifest.kind)
    lift(change, report.digest, key[0])  # checked and stored anew, just before
    if (known := _known(change, key, report.digest)) is not None:
        return known, False
    refuse_over_quota(change, key[0], report, new_name=held is None)
    number = _insert(change, key, report)
    hold(change, key, number, members)
    return number, True


def written(change: Change, key: NameKey, number: int) -> Version:
    """A version that this change has just written or found."""
    version = read_version(change.write.connection, key, number, change.parse)
    assert version is not None, "its row was there a moment ago, in this transaction"
    return version


def retire(change: Change, record: NameRecord, versions: Sequence[Version]) -> None:
    """Take versions away; raises `Conflict` naming all that holds one of them."""
    numbers = [version.ref.version for version in versions]
    refuse_held(change, record, numbers)
    free(change, record.key, numbers)
    change.execute(delete(VERSIONS).where(name_is(VERSIONS, record.key), VERSIONS.c.version.in_(numbers)))
    for version in versions:
        left = {"version": version.ref.version, "digest": version.ref.digest}
        change.execute(insert(TOMBSTONES).values(**columns(record.key), **left, at=change.at, actor=change.actor))
        subject = f"{record.name}@{version.ref.version}"
        change.touch(record.key, "retire", subject=subject, detail=version.ref.digest, before=left)


def numbered(record: NameRecord, number: int) -> Version:
    """One version of a name; raises `NotFound`."""
    for version in record.versions:
        if version.ref.version == number:
            return version
    raise missing_selector(record, Reference(record.name, version=number))


def _held(change: Change, key: NameKey) -> str | None:
    """The kind of packages that a name holds, or None for a name without versions."""
    manifest: str | None = change.execute(_ANY_MANIFEST, of(key)).scalar_one_or_none()
    return None if manifest is None else change.parse(manifest).kind


def _known(change: Change, key: NameKey, digest: str) -> int | None:
    """The newest version of a name that has these bytes."""
    number: int | None = change.execute(_NEWEST_WITH, {**of(key), "digest": digest}).scalar_one()
    return number


def _insert(change: Change, key: NameKey, report: CheckReport) -> int:
    number: int = change.execute(_NEXT, of(key)).scalar_one_or_none() or 1
    if number == 1:
        change.execute(_NEW_NAME, {**columns(key), "next_version": 2, "revision": change.revision})
    else:
        change.execute(_COUNT, {**of(key), "next": number + 1})
    row: dict[str, Any] = {
        "version": number,
        "digest": report.digest,
        "manifest": to_json(report.manifest),
        "nbytes": report.nbytes,
        "created": change.at,
        "created_by": change.actor,
    }
    change.execute(_NEW_VERSION, {**columns(key), **row})
    after = {"version": number, "digest": report.digest}
    change.touch(key, "publish", subject=f"{key[2]}@{number}", detail=report.digest, after=after)
    return number
