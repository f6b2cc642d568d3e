"""The fair queue: a line per tenant, served by virtual cost.

Each tenant has a counter of the cost it was served, and the tenant with the least goes first (virtual token counter,
Sheng et al. 2024, arXiv:2401.00588). An encoder row's cost is known before it runs (tokens x layers), so the counter
is exact. A tenant that returns starts at the least counter among those who wait: idling saves nothing up. A row whose
adapters are not resident is passed over and holds nobody back. Not thread-safe: the loop guards it.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from itertools import count

from adapters.refs import AdapterRef
from serving.errors import Conflict, Overloaded
from serving.scheduler.batcher import Batcher, Budget
from serving.scheduler.waiting import Picked, Ready, Waiting

BYTES_PER_COST = 16 << 10  # adapter bytes moved in about the time that one token takes in one layer of a small encoder
_RETRY_SECONDS = (0.1, 30.0)


class FairQueue:
    """Bounded lines of waiting rows, one per tenant; `take` is the policy."""

    def __init__(
        self,
        layers: int,
        max_queued: int,
        clock: Callable[[], float],
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self._layers = layers
        self._max_queued = max_queued
        self._clock = clock
        self._shares = dict(shares or {})
        self._lines: dict[str, dict[str, Waiting]] = {}  # tenants that wait; rows by ticket id, oldest first
        self._tenants: dict[str, str] = {}  # ticket id -> tenant
        self._virtual: dict[str, float] = {}
        self._floor = 0.0
        self._missed: dict[str, float] = {}  # ticket id -> when its adapters were first found missing
        self._deadlines: list[tuple[float, int, Waiting]] = []
        self._order = count()
        self._seconds_per_cost: float | None = None

    def __len__(self) -> int:
        return len(self._tenants)

    def __contains__(self, ticket: str) -> bool:
        return ticket in self._tenants

    def put(self, row: Waiting) -> Waiting | None:
        """Add a row. In a full queue it displaces the newest row of the longest line, which is returned.

        Raises `Overloaded` where the row's own tenant holds the longest line, `Conflict` for a ticket that waits already.
        """
        tenant = row.ticket.tenant
        if row.ticket.id in self._tenants:
            raise Conflict(f"ticket {row.ticket.id} waits already")
        displaced = None
        if len(self) >= self._max_queued:
            longest = max(self._lines, key=lambda name: len(self._lines[name]))
            if len(self._lines[longest]) <= len(self._lines.get(tenant, ())) + 1:
                raise Overloaded(f"{len(self)} rows wait already", retry_after=self.retry_after())
            displaced = self._remove(next(reversed(self._lines[longest])))
        if tenant not in self._lines:
            self._virtual[tenant] = max(self._virtual.get(tenant, 0.0), self._least())
        self._lines.setdefault(tenant, {})[row.ticket.id] = row
        self._enter(row)
        return displaced

    def restore(self, picked: Picked) -> None:
        """Put a picked row back at the head of its line and give its cost back: it did not run."""
        row = picked.waiting
        tenant = row.ticket.tenant
        self._lines[tenant] = {row.ticket.id: row, **self._lines.get(tenant, {})}
        self._virtual[tenant] = self._virtual.get(tenant, self._floor) - self._price(row)
        self._missed[row.ticket.id] = self._clock() - picked.load_s
        self._enter(row)

    def remove(self, ids: Iterable[str]) -> list[Waiting]:
        """Take rows out by ticket id; ids that do not wait are passed over."""
        return [self._remove(ticket) for ticket in ids if ticket in self._tenants]

    def clear(self) -> list[Waiting]:
        """Take out everything."""
        return self.remove(tuple(self._tenants))

    def expire(self) -> list[Waiting]:
        """Take out the rows whose deadline is over."""
        now, late = self._clock(), []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, row = heapq.heappop(self._deadlines)
            if self._waits(row):
                late.append(self._remove(row.ticket.id))
        return late

    def next_deadline(self) -> float | None:
        """When `expire` may have something to do."""
        return self._deadlines[0][0] if self._deadlines else None

    def take(self, budget: Budget, ready: Ready) -> list[Picked]:
        """Fill a budget with rows whose adapters are resident, in fair order, and charge their tenants."""
        batch = Batcher(budget)
        known: dict[tuple[AdapterRef, ...], Mapping[AdapterRef, int] | None] = {}
        turns = self._turns()
        lines = {tenant: iter(line.values()) for tenant, line in self._lines.items()}
        now = self._clock()
        while turns and not batch.full:
            virtual, tenant = heapq.heappop(turns)
            for row in lines[tenant]:
                if row.refs not in known:
                    known[row.refs] = ready(row.refs)
                nbytes = known[row.refs]
                if nbytes is None:
                    self._missed.setdefault(row.ticket.id, now)
                elif batch.admit(row, nbytes):
                    heapq.heappush(turns, (virtual + self._price(row), tenant))
                    break
        self._floor = max(self._floor, self._least())
        return [self._pick(row, now) for row in batch.rows]

    def upcoming(self, limit: int) -> list[Waiting]:
        """The next rows in fair order, resident or not: whose adapters to bring in meanwhile."""
        turns, rows = self._turns(), list[Waiting]()
        lines = {tenant: iter(line.values()) for tenant, line in self._lines.items()}
        while turns and len(rows) < limit:
            virtual, tenant = heapq.heappop(turns)
            row = next(lines[tenant], None)
            if row is not None:
                rows.append(row)
                heapq.heappush(turns, (virtual + self._price(row), tenant))
        return rows

    def charge(self, tenant: str, nbytes: int) -> None:
        """Make a tenant pay for bytes of adapters that were moved for it."""
        cost = nbytes / BYTES_PER_COST / self._shares.get(tenant, 1.0)
        self._virtual[tenant] = max(self._virtual.get(tenant, 0.0), self._floor) + cost

    def served(self, rows: Iterable[Picked], seconds: float) -> None:
        """Learn the rate from a step, for `retry_after`."""
        cost = sum(self._layers * picked.waiting.tokens for picked in rows)
        rate = seconds / max(cost, 1)
        old = self._seconds_per_cost
        self._seconds_per_cost = rate if old is None else 0.9 * old + 0.1 * rate

    def retry_after(self) -> float:
        """Seconds until what waits now should be done."""
        low, high = _RETRY_SECONDS
        if self._seconds_per_cost is None:
            return 1.0
        cost = sum(self._layers * row.tokens for line in self._lines.values() for row in line.values())
        return min(max(cost * self._seconds_per_cost, low), high)

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        waiting = {ticket: tenant for tenant, line in self._lines.items() for ticket in line}
        timed = {id(row) for _, _, row in self._deadlines}
        breaches = {
            "the index and the lines differ": waiting != self._tenants,
            "an empty line was kept": not all(self._lines.values()),
            "a tenant waits without a counter": not set(self._lines) <= set(self._virtual),
            "a row that left is still counted as missing": not set(self._missed) <= set(waiting),
            "a deadline was lost": any(id(row) not in timed for line in self._lines.values() for row in line.values()),
        }
        return tuple(f"queue: {fault}" for fault, breached in breaches.items() if breached)

    def _turns(self) -> list[tuple[float, str]]:
        turns = [(self._virtual[tenant], tenant) for tenant in self._lines]
        heapq.heapify(turns)
        return turns

    def _price(self, row: Waiting) -> float:
        return self._layers * row.tokens / self._shares.get(row.ticket.tenant, 1.0)

    def _least(self) -> float:
        return min((self._virtual[tenant] for tenant in self._lines), default=self._floor)

    def _waits(self, row: Waiting) -> bool:
        return self._lines.get(row.ticket.tenant, {}).get(row.ticket.id) is row

    def _enter(self, row: Waiting) -> None:
        self._tenants[row.ticket.id] = row.ticket.tenant
        if len(self._deadlines) > 2 * len(self) + 64:  # rows that left early would pile up until their deadline
            self._deadlines = [item for item in self._deadlines if self._waits(item[2])]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (row.deadline, next(self._order), row))

    def _pick(self, row: Waiting, now: float) -> Picked:
        missed = self._missed.get(row.ticket.id, now)
        self._virtual[row.ticket.tenant] += self._price(row)
        self._remove(row.ticket.id)
        return Picked(row, missed - row.arrived, now - missed)

    def _remove(self, ticket: str) -> Waiting:
        tenant = self._tenants.pop(ticket)
        self._missed.pop(ticket, None)
        line = self._lines[tenant]
        row = line.pop(ticket)
        if not line:
            del self._lines[tenant]
            if not self._lines:  # nobody waits: whoever comes next starts beside the last one who was served
                self._floor = max(self._floor, self._virtual[tenant])
            if len(self._virtual) > 2 * len(self._lines) + 64:  # a counter below the floor says nothing any more
                self._virtual = {k: v for k, v in self._virtual.items() if k in self._lines or v > self._floor}
        return row
