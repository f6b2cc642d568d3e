"""One batch of an engine: it leases what its rows name, has them computed, and lets go when the answers are here.

Until then nothing may take its adapters off the device, however long ago the pass was asked for.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from adapters.cache.tiered import Lease, TieredCache
from adapters.errors import AdapterError
from serving.engine.forward import Forward, Pending, Share, Work
from serving.engine.telling import methods_of
from serving.errors import EngineFailed
from serving.metrics import EngineMetrics
from serving.request import Refusal, Reply, Result, Ticket, Timing
from serving.scheduler.replies import refusal
from serving.scheduler.waiting import Picked

Leased = Sequence[tuple[Picked, Lease | None]]  # None where a row's adapters left between the look and the lease


class Batches:
    """Begins batches; on the forward thread only."""

    def __init__(
        self,
        cache: TieredCache,
        forward: Forward,
        metrics: EngineMetrics,
        replica: str,
        clock: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._forward = forward
        self._metrics = metrics
        self._replica = replica
        self._clock = clock

    def begin(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> "Batch":
        """See `scheduler.stepping.Machine.begin`; whatever raises leaves no lease behind."""
        with ExitStack() as held:
            leased = [(row, self._lease(row, held)) for row in rows]
            meanwhile()
            self._metrics.mixed([methods_of(lease) for _, lease in leased if lease is not None])
            work = [Work(row.waiting.ticket, lease.resident) for row, lease in leased if lease is not None]
            began = self._clock()
            pending = self._forward.begin(work) if work else None
            return Batch(leased, pending, held.pop_all(), began, self._clock, self._reply)

    def _lease(self, row: Picked, held: ExitStack) -> Lease | None:
        try:
            lease = self._cache.try_acquire(row.waiting.refs)
        except AdapterError:  # it can never be granted: the row goes back, and is refused with `failure`
            return None
        return None if lease is None else held.enter_context(lease)

    def _reply(self, ticket: Ticket, share: Share, lease: Lease, timing: Timing, rows: int) -> Reply:
        if isinstance(share, AdapterError):
            return refusal(ticket, share, self._replica)
        if not np.isfinite(share.output).all():
            detail = "the output of this row is not finite: its adapter's weights are damaged or overflow"
            return Refusal(ticket.id, EngineFailed.code, detail, self._replica)
        tiers = {ref.digest: lease.tiers[ref.digest] for ref in ticket.refs}
        for tier in tiers.values():
            self._metrics.found.labels(tier).inc()
        return Result(ticket.id, share.output, timing, tiers, self._replica, rows, share.indices)


class Batch:
    """A batch that was asked for. `seconds`: how long the device took for it, where it tells, once it is finished."""

    def __init__(
        self,
        leased: Leased,
        pending: Pending | None,
        held: ExitStack,
        began: float,
        clock: Callable[[], float],
        reply: Callable[[Ticket, Share, Lease, Timing, int], Reply],
    ) -> None:
        """`held` are the leases, `began` is when the pass was asked for."""
        self._leased = leased
        self._pending = pending
        self._held = held
        self._began = began
        self._clock = clock
        self._reply = reply
        self.seconds: float | None = None

    def finish(self) -> list[Reply | None]:
        """See `scheduler.stepping.Begun.finish`; the leases end with it, also where it raises."""
        with self._held:
            shares = [] if self._pending is None else self._pending.finish()
            self.seconds = None if self._pending is None else self._pending.seconds
            forward_s = self._clock() - self._began if self.seconds is None else self.seconds
            ran, outputs = sum(not isinstance(share, AdapterError) for share in shares), iter(shares)
            replies: list[Reply | None] = []
            for row, lease in self._leased:
                if lease is None:
                    replies.append(None)
                    continue
                timing = Timing(row.queue_s * 1000, row.load_s * 1000, forward_s * 1000)
                replies.append(self._reply(row.waiting.ticket, next(outputs), lease, timing, ran))
            return replies
