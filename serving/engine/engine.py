"""The engine: one backbone, its cache and its loop, as a plain object without a word of HTTP or Ray.

`step` is the heart: lease, one forward pass for all rows, each row's own share, release. Everything else hands work
to the loop, or tells an operator what is here.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from adapters.cache.tiered import Lease, TieredCache
from adapters.errors import AdapterError
from adapters.refs import AdapterRef
from serving.config import ServiceSettings
from serving.engine.build import Parts, parts_of
from serving.engine.forward import Work
from serving.errors import EngineFailed, NotFound, NotReady, ServiceError, from_library
from serving.metrics import CacheCounts, EngineMetrics, render
from serving.request import Reduced, Refusal, ReplicaReport, Reply, ResidencyEntry, Result, Ticket, Timing
from serving.scheduler.loop import Loop
from serving.scheduler.queue import FairQueue
from serving.scheduler.replies import refusal
from serving.scheduler.waiting import Picked, Sink

LOAD_SECONDS = 30.0  # how long an operator's preload waits


class Engine:
    """One replica. Any thread may call any method; `preload`, `pin` and `close` wait, the others do not."""

    def __init__(self, parts: Parts, replica: str = "engine", clock: Callable[[], float] = time.monotonic) -> None:
        self.replica = replica
        self.metrics = EngineMetrics(self._cache_counts)
        self._parts = parts
        self._clock = clock
        self._cache = TieredCache(
            parts.disk, parts.host, parts.device, parts.loader.load, parts.source, on_change=self._changed, clock=clock
        )
        queue = FairQueue(parts.layers, parts.max_queued, clock)
        self._loop = Loop(self, queue, parts.budget, metrics=self.metrics, replica=replica, clock=clock)
        self._ending = ExitStack()  # the last one first
        self._ending.callback(parts.release)
        self._ending.callback(self._cache.close)
        self._ending.callback(self._loop.close)

    @classmethod
    def build(cls, settings: ServiceSettings, blob_source: Callable[[str], Path], replica: str = "engine") -> Self:
        """Load the backbone, open the cache and start the forward thread; `blob_source` maps a digest to its file."""
        engine = cls(parts_of(settings, blob_source), replica)
        engine.start()
        return engine

    def start(self) -> None:
        """Start the forward thread; `build` has done so."""
        self._loop.start()

    def submit(self, tickets: Sequence[Ticket], sink: Sink) -> None:
        """Queue tickets. `sink` gets each reply once, those that finished together as one group, from any thread."""
        own, foreign = list[Ticket](), list[Ticket]()
        for ticket in tickets:
            (own if all(ref.tenant == ticket.tenant for ref in ticket.refs) else foreign).append(ticket)
        if foreign:  # the gateway resolves names for the caller's tenant only: a bug, or an attack
            sink(tuple(Refusal(ticket.id, NotFound.code, "no such adapter", self.replica) for ticket in foreign))
        self._loop.submit(own, sink)

    def cancel(self, ids: Iterable[str]) -> None:
        """Nobody waits for these any more: what still queues is refused and never runs."""
        self._loop.cancel(ids)

    def step(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> list[Reply | None]:
        """One batch: lease, one forward pass, each row's own share, release. See `scheduler.loop.Machine.step`."""
        with ExitStack() as held:
            leased = [(row, self._lease(row, held)) for row in rows]
            meanwhile()
            work = [Work(row.waiting.ticket, lease.resident) for row, lease in leased if lease is not None]
            began = self._clock()
            shares = self._parts.forward.run(work) if work else []
            ran, outputs = sum(isinstance(share, Reduced) for share in shares), iter(shares)
            forward_ms = (self._clock() - began) * 1000
            replies: list[Reply | None] = []
            for row, lease in leased:
                if lease is None:
                    replies.append(None)
                    continue
                timing = Timing(row.queue_s * 1000, row.load_s * 1000, forward_ms)
                replies.append(self._reply(row.waiting.ticket, next(outputs), lease, timing, ran))
            return replies

    def ready(self, refs: tuple[AdapterRef, ...]) -> Mapping[AdapterRef, int] | None:
        """Bytes on the device of each reference if all are resident now, else None."""
        return self._parts.loader.device_bytes(refs) if self._cache.ready(refs) else None

    def prefetch(self, refs: tuple[AdapterRef, ...]) -> None:
        """Start to bring in what is missing."""
        self._cache.prefetch(refs)

    def failure(self, refs: tuple[AdapterRef, ...]) -> ServiceError | None:
        """Why these can not be leased together: a load that failed a moment ago, or no room for all."""
        error = self._cache.obstacle(refs)
        return None if error is None else from_library(error)

    def preload(self, ref: AdapterRef, timeout_s: float = LOAD_SECONDS) -> str:
        """Load a package and wait; the tier it is in then. Raises `ServiceError`."""
        with _refusals(ref):
            self._cache.acquire((ref,), timeout_s).release()
        return self._cache.tier(ref)

    def pin(self, ref: AdapterRef, timeout_s: float = LOAD_SECONDS) -> str:
        """Load a package and keep it until `unpin` or `unload`; the tier it is in then. Raises `ServiceError`."""
        with _refusals(ref):
            self._cache.pin(ref, timeout_s)
        return self._cache.tier(ref)

    def unpin(self, ref: AdapterRef) -> None:
        """Let a package be evicted again."""
        self._cache.unpin(ref)

    def unload(self, ref: AdapterRef) -> str:
        """Unpin a package and take it out of host and device: `unloaded`, `in use`, or `not resident`."""
        self._cache.unpin(ref)
        if self._cache.evict(ref):
            return "unloaded"
        return "not resident" if self._cache.tier(ref) == "disk" else "in use"

    def retire(self, ref: AdapterRef) -> None:
        """Have a package leave every tier once its last lease ends."""
        self._cache.retire(ref)

    def report(self) -> ReplicaReport:
        """What is here and what waits; cheap enough to be asked every second."""
        queued, running = self._loop.load
        alive = self._loop.alive
        return ReplicaReport(
            replica=self.replica,
            ready=alive,
            budgets=self._cache.budgets,
            used=self._cache.used,
            counters=self._cache.counters().flat(),
            entries=tuple(
                ResidencyEntry(
                    held.ref.tenant,
                    held.ref.digest,
                    held.tier,
                    held.nbytes,
                    held.leases,
                    held.pinned,
                    held.hits,
                    held.loads,
                )
                for held in self._cache.residency()
            ),
            queued=queued,
            running=running,
            faults=() if alive else ("the forward thread does not run",),
        )

    def metrics_text(self) -> str:
        """The engine's metrics as Prometheus text."""
        return render(self.metrics.registry)

    def check(self) -> tuple[str, ...]:
        """Every breach of the books of queue, loop and cache; empty when sound."""
        return (*self._loop.check(), *self._cache.check())

    def close(self) -> None:
        """Stop after the present step; rows that wait are refused as not ready. A second call does nothing."""
        self._ending.close()

    def _lease(self, row: Picked, held: ExitStack) -> Lease | None:
        try:
            lease = self._cache.try_acquire(row.waiting.refs)
        except AdapterError:  # it can never be granted: the row goes back, and is refused with `failure`
            return None
        return None if lease is None else held.enter_context(lease)

    def _reply(self, ticket: Ticket, share: Reduced | AdapterError, lease: Lease, timing: Timing, rows: int) -> Reply:
        if isinstance(share, AdapterError):
            return refusal(ticket, share, self.replica)
        if not np.isfinite(share.output).all():
            detail = "the output of this row is not finite: its adapter's weights are damaged or overflow"
            return Refusal(ticket.id, EngineFailed.code, detail, self.replica)
        tiers = {ref.digest: lease.tiers[ref.digest] for ref in ticket.refs}
        for tier in tiers.values():
            self.metrics.found.labels(tier).inc()
        return Result(ticket.id, share.output, timing, tiers, self.replica, rows, share.indices)

    def _changed(self) -> None:
        self._loop.poke()

    def _cache_counts(self) -> CacheCounts:
        counters = self._cache.counters()
        return CacheCounts(
            evictions=counters.evictions,
            loaded_bytes=counters.bytes_loaded,
            resident_bytes=self._cache.used,
            hits=counters.hits,
            misses=counters.misses,
            loads=counters.loads,
            load_failures=counters.load_failures,
            load_seconds=counters.load_seconds,
        )


@contextmanager
def _refusals(ref: AdapterRef) -> Iterator[None]:
    """Errors of the cache as refusals."""
    try:
        yield
    except AdapterError as error:
        raise from_library(error) from error
    except TimeoutError as error:
        raise NotReady(f"{ref} was not loaded in time: everything that could make room is in use") from error
