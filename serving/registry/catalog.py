"""The truth of the registry: every write is one transaction that also says so in the audit.

Versions count from 1 per (tenant, space, name) and never change; aliases move by compare-and-swap on the name's
revision. All methods are synchronous: call them from a thread.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection, delete, insert, select, update

from adapters.architectures.profile import BackboneProfile
from adapters.manifest import from_json, to_json
from adapters.refs import Reference
from serving.errors import Conflict, PreconditionFailed
from serving.registry.absence import missing_name, missing_selector
from serving.registry.database import Database, Write
from serving.registry.lookup import Delta, NameKey, name_is, read_delta, read_history, read_name
from serving.registry.members import free, hold, refuse_held, refuse_other_kind, taken
from serving.registry.records import (
    DEFAULT_ALIAS,
    DEFAULT_EMBEDDING,
    AuditEntry,
    CheckReport,
    Member,
    NameRecord,
    Published,
    Space,
    Version,
)
from serving.registry.tables import ACTIVE_EMBEDDINGS, ALIASES, AUDIT, META, NAMES, PINS, VERSIONS

_HISTORY = 1_000  # audit rows that one question returns
T = TypeVar("T")


class Actor(Protocol):
    """Who writes: `serving.tenancy.keys.Caller`, which stands on this floor."""

    @property
    def tenant(self) -> str:
        """The tenant whose names are meant."""
        ...

    @property
    def key_id(self) -> str:
        """What the audit names."""
        ...


@dataclass(frozen=True)
class Committed(Generic[T]):
    """The outcome of a durable write, and the revision at which readers see it."""

    value: T
    revision: int


class Catalog:
    """Names, versions, aliases, pins and active embeddings in SQL."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._parse = lru_cache(maxsize=4096)(from_json)  # by text: manifests of one version are read over and over

    def bind(self, profile: BackboneProfile) -> None:
        """Remember the backbone, or raise `Conflict` where the registry was made for another one."""
        with self._database.write() as write:
            held = write.connection.execute(select(META.c.backbone_id, META.c.backbone_digest)).one()
            if held.backbone_digest is None:
                bound = {"backbone_id": profile.id, "backbone_digest": profile.digest}
                write.connection.execute(update(META).values(bound))
            elif held.backbone_digest != profile.digest:
                raise Conflict(
                    f"this registry was made for the backbone {held.backbone_id!r} ({held.backbone_digest}), "
                    f"not for {profile.id!r} ({profile.digest}): serve it from a data folder of its own",
                    code="other_backbone",
                )

    def since(self, revision: int) -> Delta:
        """What changed after `revision`; 0 reads all."""
        with self._database.read() as connection:
            return read_delta(connection, revision, self._parse)

    def history(self, tenant: str, space: Space, name: str) -> tuple[AuditEntry, ...]:
        """Audit rows of one name, newest first."""
        with self._database.read() as connection:
            return read_history(connection, (tenant, space, name), _HISTORY)

    def add_version(
        self,
        actor: Actor,
        space: Space,
        name: str,
        report: CheckReport,
        *,
        promote: bool,
        members: Sequence[Member] = (),
    ) -> Committed[Published]:
        """A new version, or the existing one where the name holds the same bytes; `promote` moves `prod` to it.

        `members` are what a target is made of. Raises `Conflict` where the name holds another kind, and `NotFound`
        where a member is gone.
        """
        key = _own(actor, space, name)
        _refuse_default(space, name)
        with self._database.write() as write:
            record = read_name(write.connection, key, self._parse)
            refuse_other_kind(record, report.manifest.kind)
            same = [v for v in (record.versions if record else ()) if v.ref.digest == report.digest]
            number = same[-1].ref.version if same else self._insert(write, actor, key, report)
            if not same:
                hold(write, key, number, members, self._parse)
            if promote and (record is None or record.aliases.get(DEFAULT_ALIAS) != number):
                self._point(write, actor, key, DEFAULT_ALIAS, number, before=record)
            version = _version_of(self._present(write.connection, key), number)
            published = Published(version, created=not same, promoted=DEFAULT_ALIAS if promote else None)
            return Committed(published, write.revision)

    def add_embedding(self, actor: Actor, name: str, report: CheckReport, *, activate: bool) -> Committed[Published]:
        """The first version of a token embedding, active from the same moment on; raises `Conflict` for a taken name."""
        key = _own(actor, "embedding", name)
        _refuse_default("embedding", name)
        with self._database.write() as write:
            if read_name(write.connection, key, self._parse) is not None:
                raise taken(name)
            number = self._insert(write, actor, key, report)
            if activate:
                self._activate(write, actor, name)
            version = _version_of(self._present(write.connection, key), number)
            return Committed(Published(version, created=True, promoted=None), write.revision)

    def set_alias(
        self, actor: Actor, space: Space, name: str, alias: str, version: int, *, if_match: int | None
    ) -> Committed[NameRecord]:
        """Point an alias at a version; raises `NotFound`, or `PreconditionFailed` where `if_match` is outdated."""
        key = _own(actor, space, name)
        with self._database.write() as write:
            record = self._present(write.connection, key)
            _refuse_outdated(record, if_match)
            _version_of(record, version)
            if record.aliases.get(alias) != version:
                self._point(write, actor, key, alias, version, before=record)
            return Committed(self._present(write.connection, key), write.revision)

    def delete_alias(
        self, actor: Actor, space: Space, name: str, alias: str, *, if_match: int | None
    ) -> Committed[NameRecord]:
        """Remove an alias; raises `NotFound`, or `PreconditionFailed` where `if_match` is outdated."""
        key = _own(actor, space, name)
        with self._database.write() as write:
            record = self._present(write.connection, key)
            _refuse_outdated(record, if_match)
            if alias not in record.aliases:
                raise missing_selector(record, Reference(name, alias=alias))
            write.connection.execute(delete(ALIASES).where(name_is(ALIASES, key), ALIASES.c.alias == alias))
            self._touch(
                write, actor, key, "unalias", subject=f"{name}@{alias}", detail=f"was version {record.aliases[alias]}"
            )
            return Committed(self._present(write.connection, key), write.revision)

    def set_pin(self, actor: Actor, space: Space, name: str, version: int, *, pinned: bool) -> Committed[NameRecord]:
        """Pin or unpin a version; doing it twice is doing it once."""
        key = _own(actor, space, name)
        with self._database.write() as write:
            record = self._present(write.connection, key)
            _version_of(record, version)
            if pinned != (version in record.pinned):
                if pinned:
                    write.connection.execute(insert(PINS).values(**_columns(key), version=version))
                else:
                    write.connection.execute(delete(PINS).where(name_is(PINS, key), PINS.c.version == version))
                self._touch(write, actor, key, "pin" if pinned else "unpin", subject=f"{name}@{version}", detail="")
            return Committed(self._present(write.connection, key), write.revision)

    def delete(self, actor: Actor, space: Space, name: str, version: int | None) -> Committed[None]:
        """Retire a version, or all of a name; raises `Conflict` where an alias, a pin or a target holds one of them.

        An active token embedding that loses its last version makes `default` active.
        """
        if space == "embedding" and name == DEFAULT_EMBEDDING:
            raise Conflict(f"{name!r} is the backbone's own vocabulary and stays")
        key = _own(actor, space, name)
        with self._database.write() as write:
            record = self._present(write.connection, key)
            doomed = record.versions if version is None else (_version_of(record, version),)
            numbers = [item.ref.version for item in doomed]
            refuse_held(write, record, numbers)
            free(write, key, numbers)
            write.connection.execute(delete(VERSIONS).where(name_is(VERSIONS, key), VERSIONS.c.version.in_(numbers)))
            for item in doomed:
                self._touch(write, actor, key, "retire", subject=f"{name}@{item.ref.version}", detail=item.ref.digest)
            if space == "embedding" and len(doomed) == len(record.versions):
                self._deactivate(write, actor, name)
            return Committed(None, write.revision)

    def set_active_embedding(self, actor: Actor, name: str | None) -> Committed[None]:
        """Make a token embedding the tenant's default vocabulary; None and `default` are the backbone's own."""
        chosen = None if name == DEFAULT_EMBEDDING else name
        with self._database.write() as write:
            if chosen is not None:
                self._present(write.connection, (actor.tenant, "embedding", chosen))
            self._activate(write, actor, chosen)
            return Committed(None, write.revision)

    def _insert(self, write: Write, actor: Actor, key: NameKey, report: CheckReport) -> int:
        name = name_is(NAMES, key)
        number = write.connection.execute(select(NAMES.c.next_version).where(name)).scalar_one_or_none() or 1
        if number == 1:
            first = insert(NAMES).values(**_columns(key), next_version=2, revision=write.revision)
            write.connection.execute(first)
        else:
            write.connection.execute(update(NAMES).where(name).values(next_version=number + 1))
        row = insert(VERSIONS).values(
            **_columns(key),
            version=number,
            digest=report.digest,
            manifest=to_json(report.manifest),
            nbytes=report.nbytes,
            created=self._clock(),
            created_by=actor.key_id,
        )
        write.connection.execute(row)
        self._touch(write, actor, key, "publish", subject=f"{key[2]}@{number}", detail=report.digest)
        return number

    def _point(
        self, write: Write, actor: Actor, key: NameKey, alias: str, version: int, *, before: NameRecord | None
    ) -> None:
        was = before.aliases.get(alias) if before else None
        if was is None:
            write.connection.execute(insert(ALIASES).values(**_columns(key), alias=alias, version=version))
        else:
            held = (name_is(ALIASES, key), ALIASES.c.alias == alias)
            write.connection.execute(update(ALIASES).where(*held).values(version=version))
        detail = f"version {version}" + ("" if was is None else f", was version {was}")
        self._touch(write, actor, key, "alias", subject=f"{key[2]}@{alias}", detail=detail)

    def _activate(self, write: Write, actor: Actor, name: str | None) -> None:
        mine = ACTIVE_EMBEDDINGS.c.tenant == actor.tenant
        write.connection.execute(delete(ACTIVE_EMBEDDINGS).where(mine))
        row = insert(ACTIVE_EMBEDDINGS).values(tenant=actor.tenant, name=name, revision=write.revision)
        write.connection.execute(row)
        shown = name or DEFAULT_EMBEDDING
        self._audit(write, actor, (actor.tenant, "embedding", shown), "activate", subject=shown, detail="")

    def _deactivate(self, write: Write, actor: Actor, name: str) -> None:
        active = select(ACTIVE_EMBEDDINGS.c.name).where(ACTIVE_EMBEDDINGS.c.tenant == actor.tenant)
        if write.connection.execute(active).scalar_one_or_none() == name:
            self._activate(write, actor, None)

    def _present(self, connection: Connection, key: NameKey) -> NameRecord:
        record = read_name(connection, key, self._parse)
        if record is None:
            raise missing_name(key[1], key[2])
        return record

    def _touch(self, write: Write, actor: Actor, key: NameKey, action: str, *, subject: str, detail: str) -> None:
        """Let readers see that this name changed, and the audit who changed it."""
        write.connection.execute(update(NAMES).where(name_is(NAMES, key)).values(revision=write.revision))
        self._audit(write, actor, key, action, subject=subject, detail=detail)

    def _audit(self, write: Write, actor: Actor, key: NameKey, action: str, *, subject: str, detail: str) -> None:
        row = insert(AUDIT).values(
            **_columns(key), at=self._clock(), actor=actor.key_id, action=action, subject=subject, detail=detail
        )
        write.connection.execute(row)


def _own(actor: Actor, space: Space, name: str) -> NameKey:
    return (actor.tenant, space, name)


def _refuse_default(space: Space, name: str) -> None:
    if space == "embedding" and name == DEFAULT_EMBEDDING:
        raise Conflict(f"{name!r} is the backbone's own vocabulary: publish under another name")


def _columns(key: NameKey) -> dict[str, str]:
    return dict(zip(("tenant", "space", "name"), key, strict=True))


def _version_of(record: NameRecord, number: int) -> Version:
    for version in record.versions:
        if version.ref.version == number:
            return version
    raise missing_selector(record, Reference(record.name, version=number))


def _refuse_outdated(record: NameRecord, if_match: int | None) -> None:
    if if_match is not None and if_match != record.revision:
        raise PreconditionFailed(f"{record.name!r} is at revision {record.revision}, not {if_match}: read it again")
