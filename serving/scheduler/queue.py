"""The fair queue: a line per tenant, served by virtual time.

Start-time fair queueing (Goyal, Vin, Cheng 1996) over exact costs. A tenant's counter grows by cost / weight of what it
was served, and the tenant with the least goes first; an encoder row's cost is known before it runs (layers x tokens),
so the counter is exact, as no estimate of it could be (compare the virtual token counter, arXiv:2401.00588). The
queue's clock is the counter at which the last row was picked: a tenant that had nothing to run starts there, so that
neither idling nor waiting for a load saves anything up. Between two tenants with rows to run, the counters differ by
no more than one row of each, wherever device bytes do not bind and no long line left its step to short ones (`take`),
which may get ahead by that step. Not thread-safe: the loop guards it.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

from adapters.refs import AdapterRef
from serving.errors import Conflict, Overloaded
from serving.request import TenantLine
from serving.scheduler.batcher import Batcher, Budget, Fit
from serving.scheduler.debts import Debts
from serving.scheduler.lines import Lines
from serving.scheduler.waiting import Picked, Ready, Waiting

BYTES_PER_COST = 16 << 10  # adapter bytes moved in about the time that one token takes in one layer of a small encoder
PASSES = 8  # batches that may leave a row behind for want of device bytes, before the rest of its line waits for it


class FairQueue:
    """Bounded lines of waiting rows, one per tenant; `take` is the policy."""

    def __init__(
        self,
        layers: int,
        max_queued: int,
        clock: Callable[[], float],
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self._max_queued = max_queued
        self._clock = clock
        self._weights = dict(shares or {})
        self._lines = Lines(layers)
        self._debts = Debts()  # of those who wait
        self._virtual: dict[str, float] = {}
        self._now = 0.0  # the counter at which the last row was picked; the furthest one once nothing waits
        self._furthest = 0.0  # of the tenants that were served
        self._missed: dict[str, float] = {}  # ticket id -> when its adapters were first found missing
        self._passed: dict[str, int] = {}  # ticket id -> batches that left it behind for want of device bytes

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._lines

    @property
    def cost(self) -> int:
        """Layers x tokens of all that waits."""
        return self._lines.cost

    @property
    def loading(self) -> int:
        """Rows of those that wait whose adapters were not there when they were looked at."""
        return len(self._missed)

    @property
    def tenants(self) -> int:
        """How many tenants wait."""
        return len(self._lines.tenants)

    def guests(self, cost: int) -> bool:
        """Whether a tenant whose rows cost no more than this together waits beside one whose do."""
        costs = [self._lines.cost_of(tenant) for tenant in self._lines.tenants]
        return bool(costs) and min(costs) <= cost < max(costs)

    def price(self, row: Waiting) -> int:
        """Layers x tokens of a row."""
        return self._lines.price(row)

    def share(self, weights: Mapping[str, float]) -> None:
        """Serve by these weights from now on; a tenant that is not named has 1."""
        self._weights = dict(weights)

    def put(self, row: Waiting, retry_after: float | None = None) -> Waiting | None:
        """Add a row. In a full queue it displaces the newest row of the longest line, which is returned.

        Raises `Overloaded` where the row's own tenant holds the longest line, `Conflict` for a ticket that waits already.
        """
        tenant = row.ticket.tenant
        if row.ticket.id in self._lines:
            raise Conflict(f"ticket {row.ticket.id} waits already")
        displaced = None
        if len(self) >= self._max_queued:
            newest = self._lines.newest_of_longest()
            if self._lines.rows(newest.ticket.tenant) <= self._lines.rows(tenant) + 1:
                raise Overloaded(f"{len(self)} rows wait already", retry_after=retry_after)
            displaced = self._remove(newest.ticket.id)
        if not self._lines.rows(tenant):
            self._lift(tenant)
        self._lines.append(row)
        return displaced

    def restore(self, rows: Sequence[Picked]) -> None:
        """Put picked rows back at the head of their lines and give their cost back: they did not run."""
        self._lines.prepend(picked.waiting for picked in rows)
        for picked in rows:
            self._missed[picked.waiting.ticket.id] = self._clock() - picked.load_s
            self.refund(picked)

    def refund(self, picked: Picked) -> None:
        """Give the cost of a picked row back that never ran."""
        tenant = picked.waiting.ticket.tenant
        self._virtual[tenant] = self._virtual.get(tenant, self._now) - picked.paid
        self._owe(tenant, picked.loads)

    def remove(self, ids: Iterable[str]) -> list[Waiting]:
        """Take rows out by ticket id; ids that do not wait are passed over."""
        return [self._remove(ticket) for ticket in ids if ticket in self._lines]

    def clear(self) -> list[Waiting]:
        """Take out everything."""
        return self.remove([row.ticket.id for tenant in tuple(self._lines.tenants) for row in self._lines.line(tenant)])

    def expire(self) -> list[Waiting]:
        """Take out the rows whose deadline is over."""
        return self.remove(self._lines.late(self._clock()))

    def next_deadline(self) -> float | None:
        """When `expire` may have something to do."""
        return self._lines.next_deadline()

    def take(self, budget: Budget, ready: Ready, beside: int | None = None) -> list[Picked]:
        """Fill a budget with rows whose adapters are resident, in fair order, and charge their tenants.

        The row whose turn it is and that does not fit closes the batch: nobody gets ahead for being short. Where others
        have less than a whole step to do, a tenant with more leaves the step to them at `beside` tokens, once one of
        their rows is in: all rows of a step are answered together, so what it adds is time that the others wait.
        """
        batch = Batcher(budget)
        beside = budget.tokens if beside is None else beside
        known: dict[tuple[AdapterRef, ...], Mapping[AdapterRef, int] | None] = {}
        turns = self._turns()
        lines = {tenant: self._lines.line(tenant) for _, _, tenant in turns}
        heavy = {t for t in lines if self._lines.cost_of(t) > self._lines.layers * budget.tokens}
        guests, idle, short, now, fit = False, list[str](), set[str](), self._clock(), Fit.IN
        loads: list[Mapping[AdapterRef, float]] = []  # of the rows of the batch: their adapters that are not paid yet
        while turns and not batch.full and fit is not Fit.FULL:
            virtual, age, tenant = heapq.heappop(turns)
            for row in lines[tenant]:
                if row.refs not in known:
                    known[row.refs] = ready(row.refs)
                nbytes = known[row.refs]
                if nbytes is None:
                    self._missed.setdefault(row.ticket.id, now)
                    continue
                if guests and tenant in heavy and batch.tokens + row.tokens > beside:
                    break
                fit = batch.admit(row, nbytes)
                if fit is Fit.IN:
                    guests = guests or tenant not in heavy
                    self._now = max(self._now, virtual)
                    loads.append(self._debts.settle(row))
                    heapq.heappush(turns, (virtual + self._price(row, loads[-1]), age, tenant))
                if fit is not Fit.SHORT:
                    break
                short.add(tenant)
                if self._pass(row):
                    break
            else:
                idle.append(tenant)
        picked = [self._pick(row, now, moved) for row, moved in zip(batch.rows, loads, strict=True)]
        for tenant in set(idle) - short:
            self._lift(tenant)
        return picked

    def upcoming(self, limit: int) -> list[Waiting]:
        """The next rows in fair order, resident or not: whose adapters to bring in meanwhile."""
        turns, rows = self._turns(), list[Waiting]()
        lines = {tenant: self._lines.line(tenant) for _, _, tenant in turns}
        while turns and len(rows) < limit:
            virtual, age, tenant = heapq.heappop(turns)
            row = next(lines[tenant], None)
            if row is not None:
                rows.append(row)
                heapq.heappush(turns, (virtual + self._price(row), age, tenant))
        return rows

    def charge(self, tenant: str, moved: Mapping[AdapterRef, int]) -> None:
        """Make a tenant pay for adapters (bytes) that were moved for it: with the row that uses them, if one waits."""
        if not self._lines.rows(tenant):
            self._lift(tenant)
        self._owe(tenant, {ref: nbytes / BYTES_PER_COST for ref, nbytes in moved.items()})

    def told(self, limit: int) -> tuple[TenantLine, ...]:
        """What waits by tenant, the costliest lines first, at most `limit` of them."""
        by_cost = heapq.nlargest(limit, self._lines.tenants, key=self._lines.cost_of)
        lines = self._lines
        return tuple(TenantLine(t, lines.rows(t), lines.cost_of(t), self._weight(t)) for t in by_cost)

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        breaches = {
            "a tenant waits without a counter": not set(self._lines.tenants) <= set(self._virtual),
            "a tenant owes and does not wait": not self._debts.tenants <= set(self._lines.tenants),
            "a row that left is still counted as missing": not all(ticket in self._lines for ticket in self._missed),
            "a row that left is still counted as passed over": not all(t in self._lines for t in self._passed),
        }
        return (*self._lines.check(), *(f"queue: {fault}" for fault, breached in breaches.items() if breached))

    def _turns(self) -> list[tuple[float, float, str]]:
        """A heap of counters; of equal ones, whoever waits longest goes first."""
        turns = [(self._virtual[tenant], self._lines.head(tenant).arrived, tenant) for tenant in self._lines.tenants]
        heapq.heapify(turns)
        return turns

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def _price(self, row: Waiting, loads: Mapping[AdapterRef, float] | None = None) -> float:
        return (self._lines.price(row) + sum((loads or {}).values())) / self._weight(row.ticket.tenant)

    def _owe(self, tenant: str, loads: Mapping[AdapterRef, float]) -> None:
        cost = self._debts.owe(tenant, loads)
        if not self._lines.rows(tenant):
            cost += self._debts.close(tenant)
        self._virtual[tenant] += cost / self._weight(tenant)

    def _lift(self, tenant: str) -> None:
        """A tenant that had nothing to run starts at the clock, or where it was if it is ahead of that."""
        self._virtual[tenant] = max(self._virtual.get(tenant, self._now), self._now)

    def _pass(self, row: Waiting) -> bool:
        """Count that a batch has no device bytes left for a row; True where its line must wait for it by now."""
        self._passed[row.ticket.id] = self._passed.get(row.ticket.id, 0) + 1
        return self._passed[row.ticket.id] > PASSES

    def _pick(self, row: Waiting, now: float, loads: Mapping[AdapterRef, float]) -> Picked:
        missed = self._missed.get(row.ticket.id, now)
        paid = self._price(row, loads)
        self._virtual[row.ticket.tenant] += paid
        self._furthest = max(self._furthest, self._virtual[row.ticket.tenant])
        self._remove(row.ticket.id)
        return Picked(row, missed - row.arrived, now - missed, paid, loads)

    def _remove(self, ticket: str) -> Waiting:
        self._missed.pop(ticket, None)
        self._passed.pop(ticket, None)
        row = self._lines.remove(ticket)
        if not self._lines.rows(row.ticket.tenant):
            self._owe(row.ticket.tenant, {})
        if not len(self):
            self._now = max(self._now, self._furthest)
        if len(self._virtual) > 2 * len(self._lines) + 64:  # a counter behind the clock says nothing any more
            held = set(self._lines.tenants)
            self._virtual = {k: v for k, v in self._virtual.items() if k in held or v > self._now}
        return row
