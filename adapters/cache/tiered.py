"""The cache of one engine: ask with `prefetch`, use with `try_acquire`, and hold a `Lease` while a row needs it.

Fetching, reading, folding and copying happen on the loader thread, without the lock that the methods here take, and
nothing is evicted for an entry before its load has succeeded.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Self

from adapters.cache.admission import Want
from adapters.cache.books import Books, names
from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier, Source
from adapters.cache.host import Entry, HostTier
from adapters.cache.ledger import Counters, Held
from adapters.cache.loader import Load, Loader
from adapters.cache.rooms import Key, Room
from adapters.errors import AdapterError, OutOfRoom
from adapters.refs import AdapterRef
from adapters.weights import Resident

HOLD = 2.0  # seconds for which what was loaded for a request is kept until its first lease
PATIENCE = 3.0  # seconds for which a failed load is not tried again


class Lease:
    """The right to use entries that are resident; ends with `release` or the `with` block."""

    def __init__(
        self, resident: Mapping[AdapterRef, Resident | Entry], tiers: Mapping[str, str], end: Callable[["Lease"], None]
    ) -> None:
        self.resident = MappingProxyType(dict(resident))
        self.tiers = MappingProxyType(dict(tiers))  # digest -> tier in which it was found at first ask
        self._end = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the entries back; a second call does nothing."""
        self._end(self)


class TieredCache:
    """Disk, host and device as one; any thread may call any method, and none but `acquire`, `pin` and `close` waits.

    `load` turns a verified file into an entry: an `Adapter` goes on to the device, anything else is used from host
    memory. `source` says where the registry has a blob. `on_change` is called, without a lock held, on the loader
    thread whenever a load ends, well or badly. Neither pins nor floors take the part `loose` of device and host, and a
    tenant protects no more than the rest ahead of its leases. Without `threaded` the owner calls `turn`, in its own time.
    """

    def __init__(
        self,
        disk: DiskTier,
        host: HostTier,
        device: DeviceTier,
        load: Load,
        source: Source,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        hold: float = HOLD,
        patience: float = PATIENCE,
        loose: float = 0.0,
        threaded: bool = True,
    ) -> None:
        self._books = Books(disk, host, device, clock=clock, hold=hold, patience=patience, loose=loose)
        self._changed = self._books.changed
        self._hold = hold
        self._leases: dict[Lease, frozenset[Key]] = {}
        self._loader = Loader(self._books, load, source, on_change, threaded=threaded)

    def turn(self) -> bool:
        """One job of the loader on this thread; False where there was nothing to do. Only without `threaded`."""
        return self._loader.turn()

    def share(self, rooms: Mapping[str, Room], weights: Mapping[str, float] | None = None) -> float:
        """Give tenants floors and ceilings on the device (floors on the host in proportion), and weights in the loader's line.

        Tenants that are not named have `Room()` and 1. What is over a lowered ceiling leaves, except what is leased,
        pinned or awaited. Answers how much of the device floors there is room for, 0..1.
        """
        with self._changed:
            books = self._books
            factor = books.host.budget / books.device.budget if books.device.budget else 0.0
            books.share(rooms, {tenant: room.scaled(factor) for tenant, room in rooms.items()}, weights or {})
            self._changed.notify_all()
            return books.device.rooms.kept

    @property
    def alive(self) -> bool:
        """Whether the loader works: without it nothing that is not here ever comes."""
        return self._loader.alive

    @property
    def budgets(self) -> dict[str, int]:
        """Tier -> bytes that it may hold."""
        books = self._books
        return {"device": books.device.budget, "host": books.host.budget, "disk": books.disk.budget}

    @property
    def used(self) -> dict[str, int]:
        """Tier -> bytes that it holds."""
        books = self._books
        return {"device": books.device.lru.used, "host": books.host.lru.used, "disk": books.disk.used}

    @property
    def held(self) -> dict[str, int]:
        """Tenant -> bytes that its entries take on the device."""
        with self._changed:
            lru = self._books.device.lru
            return {tenant: lru.held(tenant) for tenant in lru.owners}

    @property
    def floors_kept(self) -> float:
        """How much of the device floors there is room for beside pins and the loose part, 0..1."""
        with self._changed:
            return self._books.device.rooms.kept

    def ready(self, refs: Sequence[AdapterRef]) -> bool:
        """Whether `try_acquire` would grant these now."""
        with self._changed:
            return self._books.ready(refs)

    def try_acquire(self, refs: Sequence[AdapterRef]) -> Lease | None:
        """A lease on all of the entries, or None if one is not resident; raises `OutOfRoom` if they can never be."""
        with self._changed:
            if self._books.ready(refs):
                return self._grant(refs)
            error = self._books.obstacle(refs)
            if isinstance(error, OutOfRoom):
                raise error
            return None

    def prefetch(self, refs: Sequence[AdapterRef], tenant: str | None = None) -> None:
        """Have these loaded, to be resident together; nothing for what is ready, failed lately, or can never fit.

        `tenant` takes the turn, and pays for it; without one, whoever owns the first. What was loaded is kept for `hold`
        seconds at most: ask again for as long as a request waits.
        """
        with self._changed:
            books = self._books
            keys = frozenset(ref.key for ref in refs)
            known = books.admission.wants.get(keys)
            on_behalf = tenant or (refs[0].tenant if refs else "")
            if known is not None and on_behalf in known.tenants:
                known.asked = books.clock()
                return
            if books.ready(refs) or books.obstacle(refs) is not None:
                return
            missed = {}
            if known is None:  # else it is counted as missing already
                missed = {ref.key: books.missed(ref) for ref in dict.fromkeys(refs) if not books.there(ref.key)}
            for ref in refs:
                books.ledger.fact(ref)
            books.admission.ask(Want(tuple(dict.fromkeys(refs)), missed, [on_behalf]))
            self._changed.notify_all()

    def acquire(self, refs: Sequence[AdapterRef], timeout: float) -> Lease:
        """Load what is missing and wait for the lease; raises `LoadFailed`, `OutOfRoom`, or `TimeoutError`.

        Not for the batch thread. Two threads that each wait for a second lease while they hold a first can deadlock.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._books.ready(refs):
                error = self._books.obstacle(refs)
                if error is not None:
                    raise error.with_traceback(None)  # one error for all who wait: it must not keep their frames
                self.prefetch(refs)
                left = deadline - time.monotonic()
                if not self._changed.wait(min(max(left, 0), self._hold / 2)) and left <= self._hold / 2:
                    raise TimeoutError(f"{names(refs)} not resident after {timeout} s")
            return self._grant(refs)

    def failure(self, ref: AdapterRef) -> AdapterError | None:
        """Why this entry can not be had: a load that failed in the last seconds, or `OutOfRoom`."""
        return self.obstacle((ref,))

    def obstacle(self, refs: Sequence[AdapterRef]) -> AdapterError | None:
        """Why these can not be leased together: a failed load of one, or no room for all."""
        with self._changed:
            return self._books.obstacle(refs)

    def tier(self, ref: AdapterRef) -> str:
        """Where an entry is now: "device", "host", or "disk" for all that has to be loaded."""
        with self._changed:
            return self._books.tier(ref)

    def pin(self, ref: AdapterRef, timeout: float = 30.0) -> None:
        """Load an entry and keep it; raises as `acquire` does, `OutOfRoom` where the other pins leave too little."""
        with self._changed:
            if self._books.ledger.size(ref.key) is not None:
                self._books.pin(ref, keep=False)  # in vain it would have others evicted
        with self.acquire((ref,), timeout), self._changed:
            self._books.pin(ref)

    def room(self, refs: Sequence[AdapterRef], timeout: float = 30.0) -> tuple[int, int]:
        """Bytes that pinning these needs in the device tier, and bytes that may still be pinned there.

        It is the host's numbers where that is what lacks room. Entries whose size is not known are loaded; raises as
        `acquire` does, except that what is found too large has a size by then.
        """
        for ref in refs:
            with self._changed:
                known = self._books.ledger.size(ref.key) is not None
            if not known:
                with suppress(OutOfRoom):
                    self.acquire((ref,), timeout).release()
        with self._changed:
            return self._books.room(refs)

    def unpin(self, ref: AdapterRef) -> None:
        """Let an entry be evicted again."""
        with self._changed:
            for home in self._books.homes.values():
                home.rooms.unpin(ref.key)
            self._changed.notify_all()

    def evict(self, ref: AdapterRef) -> bool:
        """Take an entry out of host and device; False if it is in neither, or leased, pinned or waited for."""
        with self._changed:
            books = self._books
            if books.busy(ref.key):
                return False
            left = books.leave(ref.key)
            self._changed.notify_all()
            return left

    def retire(self, ref: AdapterRef) -> None:
        """Have an entry leave every tier, pinned or not, as soon as nobody holds or awaits it."""
        with self._changed:
            self.unpin(ref)
            self._books.retired.add(ref.key)
            self._books.sweep()
            self._changed.notify_all()

    def residency(self) -> tuple[Held, ...]:
        """Every entry that was asked for and is still in a tier, also if only on disk."""
        with self._changed:
            books = self._books
            return tuple(held for fact in books.ledger.facts.values() if (held := books.held(fact)) is not None)

    def counters(self) -> Counters:
        """Hits, misses, loads, evictions, bytes and seconds since the start."""
        with self._changed:
            return self._books.counters()

    def check(self) -> tuple[str, ...]:
        """Every breach of the books of all tiers; empty when sound."""
        with self._changed:
            faults = list(self._books.check())
            for key in {*self._books.host.lru, *self._books.device.lru}:
                counted = sum(home.lru.leases(key) for home in self._books.homes.values())
                if counted != sum(key in keys for keys in self._leases.values()):
                    faults.append(f"{key} counts other leases than are open")
            if not self._books.closed and not self._loader.alive:
                faults.append("the loader thread has ended")
        return (*self._books.disk.check(), *faults)

    def close(self) -> None:
        """Stop the loader after its current job; open leases stay valid."""
        with self._changed:
            self._books.closed = True
            self._changed.notify_all()
        self._loader.join()

    def _grant(self, refs: Sequence[AdapterRef]) -> Lease:
        books = self._books
        keys = frozenset(ref.key for ref in refs)
        missed = {key: tier for want in books.admission.fulfil(keys) for key, tier in want.missed.items()}
        books.ledger.counted(missed, keys)
        for key in keys:
            books.home(key).lru.lease((key,))
        tiers = {ref.digest: missed.get(ref.key, books.tier(ref)) for ref in refs}
        lease = Lease({ref: books.use(ref) for ref in refs}, tiers, self._release)
        self._leases[lease] = keys
        return lease

    def _release(self, lease: Lease) -> None:
        with self._changed:
            for key in self._leases.pop(lease, ()):
                self._books.home(key).lru.release((key,))
            if self._books.admission.wants or self._books.retired:  # else nobody waits for the end of a lease
                self._books.sweep()
                self._changed.notify_all()
