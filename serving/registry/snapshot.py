"""Names to pinned versions, in memory: what every request reads, and how it keeps up with the catalog.

A snapshot is a frozen value that is replaced as a whole. Deltas are read every half second, on a nudge, and whenever a
request names something unknown; while SQL is away the last snapshot goes on serving.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from adapters.refs import Reference
from serving.errors import NotFound, NotReady
from serving.logs import log
from serving.registry.absence import missing_name, missing_selector, refuse_quarantined, retired
from serving.registry.catalog import Catalog
from serving.registry.lookup import Delta, NameKey
from serving.registry.records import DEFAULT_ALIAS, NameRecord, Quota, Resolved, Space, Version, owner_of
from serving.registry.targets import members_of
from serving.request import Desired, Share

T = TypeVar("T")
_Named = Mapping[tuple[str, Space], Mapping[str, T]]  # (tenant, space) -> name -> what is known of it


@dataclass(frozen=True)
class Snapshot:
    """The registry as it was at one revision."""

    revision: int = 0
    names: _Named[NameRecord] = field(default_factory=dict)
    active: Mapping[str, str] = field(default_factory=dict)  # tenant -> token embedding
    last: _Named[int] = field(default_factory=dict)  # of names without versions: the highest number ever given
    quotas: Mapping[str, Quota] = field(default_factory=dict)  # of tenants that were named

    def apply(self, delta: Delta) -> "Snapshot":
        """The snapshot after a delta; this one stays as it is."""
        gone = {key: delta.last.get(key) for key in delta.names}
        active, quotas = {**self.active, **delta.active}, {**self.quotas, **delta.quotas}
        return Snapshot(
            delta.revision,
            _changed(self.names, delta.names),
            {tenant: name for tenant, name in active.items() if name is not None},
            _changed(self.last, gone),
            {tenant: quota for tenant, quota in quotas.items() if quota is not None},
        )

    def find(self, tenant: str, space: Space, name: str) -> NameRecord | None:
        """One name, or None."""
        return self.names.get((tenant, space), {}).get(name)

    def held(self, key: NameKey) -> NameRecord | None:
        """One name by its key, or None."""
        return self.find(*key)

    def missing(self, tenant: str, space: Space, reference: Reference) -> NotFound:
        """Why a name leads to nothing."""
        last = self.last.get((tenant, space), {}).get(reference.name, 0)
        if reference.version is not None and reference.version <= last:
            return retired(space, reference.name, reference.version)
        return missing_name(space, reference.name, self.names.get((tenant, space), {}))


class Directory:
    """The snapshot of one gateway, and the task that keeps it fresh. Belongs to one event loop."""

    def __init__(self, catalog: Catalog, interval_s: float = 0.5) -> None:
        self._catalog = catalog
        self._interval_s = interval_s
        self._snapshot: Snapshot | None = None
        self._reading = asyncio.Lock()
        self._begun = 0  # reads begun so far
        self._changes = 0
        self._read_at = time.monotonic()  # when the last one ended well; before the first, when this was made
        self._failure: NotReady | None = None  # how the last read ended
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read a first snapshot and keep following; where SQL is away, `ready()` becomes true later."""
        await self._try_refresh()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def ready(self) -> bool:
        """Whether a first snapshot has been read."""
        return self._snapshot is not None

    @property
    def revision(self) -> int:
        """The revision that requests see now."""
        return self._current.revision

    @property
    def changes(self) -> int:
        """How often what names mean has changed here; a registry that went back comes to the same revisions again."""
        return self._changes

    @property
    def age_s(self) -> float:
        """Seconds since the registry was last read; what has changed meanwhile is not known here."""
        return time.monotonic() - self._read_at

    @property
    def quarantined(self) -> int:
        """How many versions of all tenants are not to be trusted."""
        records = (record for names in self._current.names.values() for record in names.values())
        return sum(version.quarantined is not None for record in records for version in record.versions)

    async def refresh(self, at_least: int | None = None) -> int:
        """Read what changed and return the revision held; returns at once where `at_least` is held already.

        Callers that wait for the same read share it. Raises `NotReady` when SQL is away.
        """
        if at_least is not None and self.revision >= at_least:
            return self.revision
        seen = self._begun
        async with self._reading:
            if self._begun <= seen:
                await self._read()
            elif self._failure is not None:  # a read that began after this call has just failed: once for all of us
                raise self._failure
        return self.revision

    async def resolve(self, tenant: str, space: Space, reference: Reference) -> Resolved:
        """The pinned version of a reference; what the snapshot lacks is read through to SQL.

        Raises `NotFound`, `DependencyFailed` for a version in quarantine, or `NotReady` when SQL is away and can not be
        asked.
        """
        owner = owner_of(tenant, reference.name)
        record = self._current.find(owner, space, reference.name)
        resolved = record and select(record, reference)
        if not resolved:
            await self.refresh()
            record = self._current.find(owner, space, reference.name)
            if record is None:
                raise self._current.missing(owner, space, reference)
            resolved = select(record, reference)
            if resolved is None:
                raise missing_selector(record, reference)
        refuse_quarantined(resolved.version)
        return resolved

    def names(self, tenant: str, space: Space) -> Sequence[NameRecord]:
        """Every name of the tenant, sorted."""
        held = self._current.names.get((tenant, space), {})
        return [held[name] for name in sorted(held)]

    def active_embedding(self, tenant: str) -> str | None:
        """Name of the tenant's active token embedding, or None for the backbone's own."""
        return self._current.active.get(tenant)

    def quota(self, tenant: str) -> Quota:
        """What a tenant may use; one that was never named has the default."""
        return self._current.quotas.get(tenant, Quota())

    def desired(self) -> Desired:
        """What every engine shall keep, and each tenant's share of it.

        Kept is every pinned version of every tenant that is not in quarantine; of a target, what it is made of.
        """
        snapshot = self._current
        records = (record for names in snapshot.names.values() for record in names.values())
        pinned = (v for record in records for v in record.versions if v.ref.version in record.pinned)
        held = (version for pin in pinned for version in _resident(snapshot, pin))
        refs = (version.ref for version in held if version.quarantined is None)
        shares = ((tenant, _share(quota)) for tenant, quota in sorted(snapshot.quotas.items()))
        unlike = tuple((tenant, share) for tenant, share in shares if share != Share())
        return Desired(snapshot.revision, tuple(dict.fromkeys(refs)), unlike)

    @property
    def _current(self) -> Snapshot:
        return self._snapshot or Snapshot()

    async def _read(self) -> None:
        before, self._failure = self._current, None
        self._begun += 1
        try:
            delta = await asyncio.to_thread(self._catalog.since, before.revision, before.held)
            if delta.revision < before.revision:  # a standby took over, and had not heard of the last writes
                log("registry", "the registry went back", level=logging.ERROR, seen=before.revision, now=delta.revision)
                before, delta = Snapshot(), await asyncio.to_thread(self._catalog.since, 0)
        except NotReady as error:
            self._failure = error
            raise
        except BaseException:
            self._begun -= 1  # cancelled or broken: no read that anyone could share
            raise
        if delta.revision != self.revision:
            self._changes += 1
        self._snapshot = before.apply(delta)
        self._read_at = time.monotonic()

    async def _try_refresh(self) -> None:
        try:
            await self.refresh()
        except NotReady as error:
            log("registry", error.detail, level=logging.WARNING, serving_revision=self.revision)

    async def _follow(self) -> None:
        while self._task is not None:  # ended by `stop`, which cancels it
            await asyncio.sleep(self._interval_s)
            try:
                await self._try_refresh()
            except Exception:  # one bad row must not end the following of all others
                log("registry", "could not read what followed", level=logging.ERROR, error=True, revision=self.revision)


def select(record: NameRecord, reference: Reference) -> Resolved | None:
    """The version that a reference means: a bare name is the alias `prod` if set, else the newest."""
    if reference.digest is not None:
        return _resolved(next((v for v in reversed(record.versions) if v.ref.digest == reference.digest), None), None)
    if reference.version is not None:
        return _resolved(_numbered(record, reference.version), None)
    if reference.alias is not None:
        return _resolved(_numbered(record, record.aliases.get(reference.alias)), reference.alias)
    return Resolved(record.current, DEFAULT_ALIAS if DEFAULT_ALIAS in record.aliases else None)


def _resident(snapshot: Snapshot, version: Version) -> Iterator[Version]:
    """What an engine holds of a version: itself, or the members of a target, which has no weights of its own."""
    spec = version.manifest.target
    if spec is None:
        yield version
        return
    for _, space, reference in members_of(spec):
        record = snapshot.find(owner_of(version.ref.tenant, reference.name), space, reference.name)
        found = record and select(record, reference)
        if found:
            yield found.version


def _share(quota: Quota) -> Share:
    return Share(quota.weight, quota.device_floor, quota.device_ceiling)


def _changed(held: _Named[T], changes: Mapping[NameKey, T | None]) -> _Named[T]:
    """`held` after the changes, of which None takes a name away; what did not change is shared."""
    places: dict[tuple[str, Space], dict[str, T]] = {}
    for (tenant, space, name), value in changes.items():
        place = (tenant, space)
        known = held.get(place, {})
        if value is None and name not in places.get(place, known):
            continue
        names = places.setdefault(place, dict(known))
        if value is None:
            names.pop(name)
        else:
            names[name] = value
    return {**held, **places}


def _numbered(record: NameRecord, number: int | None) -> Version | None:
    return next((v for v in record.versions if v.ref.version == number), None)


def _resolved(version: Version | None, resolved_from: str | None) -> Resolved | None:
    return None if version is None else Resolved(version, resolved_from)
