"""The engine: one backbone, its cache and its loop, as a plain object without a word of HTTP or Ray.

`begin` is the heart (`engine.batch`): lease, one forward pass for all rows, each row's own share, release. Everything
else hands work to the loop, or tells an operator what is here.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

from adapters.cache.rooms import Room
from adapters.cache.tiered import TieredCache
from adapters.refs import AdapterRef
from serving.config import ServiceSettings
from serving.engine.batch import Batch, Batches
from serving.engine.build import BATCH_SHARE, Parts, parts_of, rehearsed
from serving.engine.pins import Pins
from serving.engine.probing import computes
from serving.engine.refusals import Refusals
from serving.engine.telling import counts_of, entries_of
from serving.engine.yielding import yielding
from serving.errors import NotFound, ServiceError, from_library
from serving.logs import log
from serving.metrics import EngineMetrics, render
from serving.readings import CacheCounts
from serving.registry.records import PUBLIC
from serving.request import Desired, Refusal, ReplicaReport, TenantLine, Ticket
from serving.scheduler.loop import Loop
from serving.scheduler.pace import Pace
from serving.scheduler.queue import FairQueue
from serving.scheduler.waiting import Picked, Sink

LOAD_SECONDS = 30.0  # how long an operator's preload waits
TOP_LINES = 20  # tenants whose queue a report tells


class Engine:
    """One replica. Any thread may call any method; `preload`, `pin`, `room`, `drain` and `close` wait, the others do not."""

    def __init__(self, parts: Parts, replica: str = "engine", clock: Callable[[], float] = time.monotonic) -> None:
        self.replica = replica
        self.metrics = EngineMetrics(self._cache_counts)
        self._parts = parts
        self._clock = clock
        self._cache = TieredCache(
            parts.disk,
            parts.host,
            parts.device,
            parts.loader.load,
            parts.source,
            on_change=self._changed,
            clock=clock,
            loose=BATCH_SHARE,
        )
        self._batches = Batches(self._cache, parts.forward, self.metrics, replica, clock)
        self._pins = Pins(self._pin, self._cache.unpin)
        self._refusals, self._desired = Refusals(clock), Desired(-1)
        queue, pace = FairQueue(parts.layers, parts.max_queued, clock), Pace(parts.layers, parts.step_s, parts.rate)
        self._loop = Loop(self, queue, parts.budget, pace, metrics=self.metrics, replica=replica, clock=clock)
        self._ending = ExitStack()  # the last one first
        self._ending.callback(parts.release)
        self._ending.callback(self._cache.close)
        self._ending.callback(self._loop.close)

    @classmethod
    def build(cls, settings: ServiceSettings, blob_source: Callable[[str], Path], replica: str = "engine") -> Self:
        """Load the backbone, rehearse, and start the forward thread; `blob_source` maps a digest to its file.

        Loading gives way to engines that answer on the same machine; the threads of this one, started later, do not.
        """
        engine = cls(rehearsed(yielding(lambda: parts_of(settings, blob_source))), replica)
        engine.start()
        return engine

    def start(self) -> None:
        """Start the forward thread; `build` has done so."""
        self._loop.start()

    def submit(self, tickets: Sequence[Ticket], sink: Sink) -> None:
        """Queue tickets. `sink` gets each reply once, those that finished together as one group, from any thread."""
        own, foreign = list[Ticket](), list[Ticket]()
        for ticket in tickets:
            (own if all(ref.tenant in (ticket.tenant, PUBLIC) for ref in ticket.refs) else foreign).append(ticket)
        if foreign:  # the gateway resolves names of the caller's tenant and public ones only: a bug, or an attack
            sink(tuple(Refusal(ticket.id, NotFound.code, "no such adapter", self.replica) for ticket in foreign))
        self._loop.submit(own, sink)

    def cancel(self, ids: Iterable[str]) -> None:
        """Nobody waits for these any more: what still queues is refused and never runs."""
        self._loop.cancel(ids)

    @property
    def overlaps(self) -> bool:
        """Whether a batch computes by itself once it has begun."""
        return self._parts.forward.overlaps

    def begin(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> Batch:
        """Lease what the rows name, and ask for one forward pass. See `scheduler.stepping.Machine.begin`."""
        return self._batches.begin(rows, meanwhile)

    def sound(self) -> bool:
        """Whether the backbone still computes what it did when the engine was built."""
        return computes(self._parts.forward, self._parts.rehearsal[:1])

    def ready(self, refs: tuple[AdapterRef, ...]) -> Mapping[AdapterRef, int] | None:
        """Bytes on the device of each reference if all are resident now, else None."""
        return self._parts.loader.device_bytes(refs) if self._cache.ready(refs) else None

    def prefetch(self, refs: tuple[AdapterRef, ...], tenant: str) -> None:
        """Start to bring in what is missing, in a tenant's turn."""
        self._cache.prefetch(refs, tenant)

    def moved(self, ref: AdapterRef) -> int:
        """Bytes that bringing in a reference has moved."""
        return self._parts.loader.moved(ref)

    def failure(self, refs: tuple[AdapterRef, ...]) -> ServiceError | None:
        """Why these can not be leased together: a load that failed a moment ago, or no room for all."""
        error = self._cache.obstacle(refs)
        return None if error is None else from_library(error)

    def preload(self, ref: AdapterRef, timeout_s: float = LOAD_SECONDS) -> str:
        """Load a package and wait; the tier it is in then. Raises `ServiceError`."""
        with self._refusals.of(ref):
            self._cache.acquire((ref,), timeout_s).release()
        return self._cache.tier(ref)

    def pin(self, ref: AdapterRef, timeout_s: float = LOAD_SECONDS) -> str:
        """Load a package and keep it until `unpin`, `unload`, or another revision of `desire`; the tier it is in then.

        Raises `ServiceError`.
        """
        tier = self._pin(ref, timeout_s)
        self._pins.noted(ref, pinned=True)
        return tier

    def room(self, refs: Sequence[AdapterRef], timeout_s: float = LOAD_SECONDS) -> tuple[int, int]:
        """Bytes that pinning these needs, and bytes that may still be pinned; what was never here is loaded for it.

        Pins may take what is left beside the room of one batch. Raises `ServiceError` as `pin` does.
        """
        with self._refusals.of(*refs):
            return self._cache.room(refs, timeout_s)

    def desire(self, desired: Desired) -> None:
        """Serve tenants by these shares (weights, floors, ceilings) from now on, and have `reconcile` bring about the pins.

        Only a newer revision than the last is listened to: who tells an older one is behind.
        """
        if desired.revision <= self._desired.revision:
            return
        before, self._desired = self._desired, desired
        self._pins.desire(desired.pins)
        if desired.shares == before.shares:
            return
        weights = {tenant: share.weight for tenant, share in desired.shares}
        self._loop.share(weights)
        self.metrics.tenants.prefer(weights.__contains__)
        rooms = {tenant: Room(share.floor, share.ceiling) for tenant, share in desired.shares}
        kept = self._cache.share(rooms, weights)
        if kept < 1.0:
            text = "the floors of all tenants ask for more than the device has beside pins and one batch: all are cut"
            log("engine", text, level=logging.WARNING, kept=round(kept, 3), device=self._cache.budgets["device"])

    def reconcile(self) -> None:
        """Pin what is desired and not pinned yet, and let go of the rest; waits for loads."""
        self._pins.reconcile()

    @property
    def warm(self) -> bool:
        """Whether everything that was desired to be pinned is, or was refused; and work is taken at all."""
        return self._pins.warm and not self._loop.draining

    @property
    def revision(self) -> int:
        """Of the desired state that this engine works on; -1 before the first."""
        return self._desired.revision

    def unpin(self, ref: AdapterRef) -> None:
        """Let a package be evicted again."""
        self._pins.noted(ref, pinned=False)
        self._cache.unpin(ref)

    def unload(self, ref: AdapterRef) -> str:
        """Unpin a package and take it out of host and device: `unloaded`, `in use`, or `not resident`."""
        self.unpin(ref)
        if self._cache.evict(ref):
            return "unloaded"
        return "not resident" if self._cache.tier(ref) == "disk" else "in use"

    def retire(self, ref: AdapterRef) -> None:
        """Have a package leave every tier once its last lease ends."""
        self._pins.noted(ref, pinned=False)
        self._cache.retire(ref)

    def report(self) -> ReplicaReport:
        """What is here and what waits; cheap enough to be asked every second."""
        (queued, running), faults = self._loop.load, self._faults()
        _, tenants, lines = self.waiting(TOP_LINES)
        held = self._cache.held
        return ReplicaReport(
            replica=self.replica,
            ready=not faults,
            budgets=self._cache.budgets,
            used=self._cache.used,
            counters=self._cache.counters().flat(),
            entries=entries_of(self._cache.residency()),
            queued=queued,
            running=running,
            faults=faults,
            lines=tuple(replace(line, nbytes=held.get(line.tenant, 0)) for line in lines),
            waiting_tenants=tenants,
            cost_per_s=self._loop.rate,
            draining=self._loop.draining,
            floors_kept=self._cache.floors_kept,
            pins_refused=self._pins.refused,
            bad=self._refusals.bad,
        )

    def waiting(self, limit: int) -> tuple[int, int, tuple[TenantLine, ...]]:
        """Layers x tokens of all that waits, how many tenants wait, and the costliest lines."""
        return self._loop.lines(limit)

    def metrics_text(self) -> str:
        """The engine's metrics as Prometheus text."""
        return render(self.metrics.registry)

    def check(self) -> tuple[str, ...]:
        """Every breach of the books of queue, loop and cache; empty when sound."""
        return (*self._loop.check(), *self._cache.check())

    @property
    def max_queued(self) -> int:
        """Rows that may wait at once."""
        return self._parts.max_queued

    @property
    def layers(self) -> int:
        """Of the backbone: a token costs as many units."""
        return self._parts.layers

    def drain(self, timeout_s: float) -> bool:
        """Take no new tickets, and wait until all that are here are answered; False where the time ran out."""
        return self._loop.drain(timeout_s)

    def close(self) -> None:
        """Stop after the present step; rows that wait are refused as not ready. A second call does nothing."""
        self._ending.close()

    def _pin(self, ref: AdapterRef, timeout_s: float = LOAD_SECONDS) -> str:
        with self._refusals.of(ref):
            self._cache.pin(ref, timeout_s)
        return self._cache.tier(ref)

    def _changed(self) -> None:
        self._loop.poke()

    def _faults(self) -> tuple[str, ...]:
        threads = {"the forward thread does not run": self._loop.alive, "the loader does not run": self._cache.alive}
        return tuple(fault for fault, alive in threads.items() if not alive)

    def _cache_counts(self) -> CacheCounts:
        return counts_of(self._cache, len(self._pins.refused))
