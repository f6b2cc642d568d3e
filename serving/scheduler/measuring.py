"""What a step tells when it is over: the machine's pace, and the operator's counters."""

from collections.abc import Sequence

from serving.metrics import EngineMetrics
from serving.scheduler.batcher import Budget
from serving.scheduler.pace import Pace
from serving.scheduler.queue import FairQueue
from serving.scheduler.waiting import Picked


class Measuring:
    """Belongs to the forward thread."""

    def __init__(self, queue: FairQueue, budget: Budget, pace: Pace, metrics: EngineMetrics) -> None:
        self._queue = queue
        self._budget = budget
        self._pace = pace
        self._metrics = metrics
        metrics.cost_rate.set(pace.rate)

    def gauge(self, running: int) -> None:
        """Tell what waits, and how many rows run; in the loop's guard."""
        self._metrics.queued.set(len(self._queue))
        self._metrics.running.set(running)
        self._metrics.loading.set(self._queue.loading)
        self._metrics.queued_cost.set(self._queue.cost)

    def stepped(self, rows: Sequence[Picked], seconds: float) -> None:
        """Learn from the rows of a step that ran, and count them."""
        costs = [self._queue.price(picked.waiting) for picked in rows]
        self._pace.learn(sum(costs), seconds, full=2 * len(rows) >= self._budget.rows)
        self._metrics.cost_rate.set(self._pace.rate)
        self._metrics.stepped(
            rows=len(rows),
            tokens=sum(picked.waiting.tokens for picked in rows),
            adapters=len({ref for picked in rows for ref in picked.waiting.refs}),
            stacks=len({picked.waiting.ticket.composition for picked in rows}),
            seconds=seconds,
        )
        tenants: dict[str, list[tuple[int, float]]] = {}
        for picked, cost in zip(rows, costs, strict=True):
            self._metrics.queue_seconds.observe(picked.queue_s)
            tenants.setdefault(picked.waiting.ticket.tenant, []).append((cost, picked.queue_s))
        for tenant, own in tenants.items():
            cost, queue_s = (sum(column) for column in zip(*own, strict=True))
            self._metrics.served(tenant, rows=len(own), cost=cost, queue_s=queue_s)
