"""The rows that wait: a line per tenant, oldest first, with what each line costs and when its rows expire."""

import heapq
from collections.abc import Iterable, Iterator, KeysView
from itertools import count

from serving.scheduler.waiting import Waiting


class Lines:
    """Rows by tenant and ticket. Books only: who goes next is `FairQueue`'s business. Not thread-safe."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self._lines: dict[str, dict[str, Waiting]] = {}  # tenants that wait; rows by ticket id
        self._tenants: dict[str, str] = {}  # ticket id -> tenant
        self._costs: dict[str, int] = {}  # tenant -> cost of its line
        self._deadlines: list[tuple[float, int, Waiting]] = []
        self._order = count()
        self.cost = 0  # of all rows together

    def __len__(self) -> int:
        return len(self._tenants)

    def __contains__(self, ticket: object) -> bool:
        return ticket in self._tenants

    @property
    def tenants(self) -> KeysView[str]:
        """Those who wait."""
        return self._lines.keys()

    def price(self, row: Waiting) -> int:
        """Layers x tokens: what a row costs, exactly, before it runs."""
        return self.layers * row.tokens

    def rows(self, tenant: str) -> int:
        """How many rows of a tenant wait."""
        return len(self._lines.get(tenant, ()))

    def cost_of(self, tenant: str) -> int:
        """What the waiting rows of a tenant cost together."""
        return self._costs.get(tenant, 0)

    def line(self, tenant: str) -> Iterator[Waiting]:
        """A tenant's rows, oldest first."""
        return iter(self._lines.get(tenant, {}).values())

    def head(self, tenant: str) -> Waiting:
        """The oldest row of a tenant that waits."""
        return next(self.line(tenant))

    def newest_of_longest(self) -> Waiting:
        """The row that leaves first where there is no room; something must wait."""
        longest = max(self._lines.values(), key=len)
        return longest[next(reversed(longest))]

    def append(self, row: Waiting) -> None:
        """Put a row at the end of its tenant's line."""
        self._lines.setdefault(row.ticket.tenant, {})[row.ticket.id] = row
        self._enter(row)

    def prepend(self, rows: Iterable[Waiting]) -> None:
        """Put rows, in their order, at the head of their tenants' lines."""
        fresh: dict[str, dict[str, Waiting]] = {}
        for row in rows:
            fresh.setdefault(row.ticket.tenant, {})[row.ticket.id] = row
        for tenant, line in fresh.items():
            self._lines[tenant] = {**line, **self._lines.get(tenant, {})}
            for row in line.values():
                self._enter(row)

    def remove(self, ticket: str) -> Waiting:
        """Take a row out; it must wait."""
        tenant = self._tenants.pop(ticket)
        line = self._lines[tenant]
        row = line.pop(ticket)
        self._costs[tenant] -= self.price(row)
        self.cost -= self.price(row)
        if not line:
            del self._lines[tenant], self._costs[tenant]
        return row

    def late(self, now: float) -> list[str]:
        """The tickets that wait and whose deadline is over; they are told once."""
        late = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, row = heapq.heappop(self._deadlines)
            if self._waits(row):
                late.append(row.ticket.id)
        return late

    def next_deadline(self) -> float | None:
        """When `late` may have something to tell."""
        return self._deadlines[0][0] if self._deadlines else None

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        waiting = {ticket: tenant for tenant, line in self._lines.items() for ticket in line}
        timed = {id(row) for _, _, row in self._deadlines}
        costs = {tenant: sum(map(self.price, line.values())) for tenant, line in self._lines.items()}
        breaches = {
            "the index and the lines differ": waiting != self._tenants,
            "an empty line was kept": not all(self._lines.values()),
            "the cost of a line is wrong": costs != self._costs or self.cost != sum(costs.values()),
            "a deadline was lost": any(id(row) not in timed for line in self._lines.values() for row in line.values()),
        }
        return tuple(f"queue: {fault}" for fault, breached in breaches.items() if breached)

    def _waits(self, row: Waiting) -> bool:
        return self._lines.get(row.ticket.tenant, {}).get(row.ticket.id) is row

    def _enter(self, row: Waiting) -> None:
        tenant = row.ticket.tenant
        self._tenants[row.ticket.id] = tenant
        self._costs[tenant] = self._costs.get(tenant, 0) + self.price(row)
        self.cost += self.price(row)
        if len(self._deadlines) > 2 * len(self) + 64:  # rows that left early would pile up until their deadline
            self._deadlines = [item for item in self._deadlines if self._waits(item[2])]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (row.deadline, next(self._order), row))
