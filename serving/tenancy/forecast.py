"""How long a request would wait in the engines: predicted from what they say once a second, and what was sent since.

The engines' queues are fair by tenant, and dispatch keeps the lines of the engines about equally long, so the fleet is
taken as one server that works at the sum of the engines' rates and gives every tenant that waits its weighted share.
Behind a tenant's own line b_i and its new cost c, v = (b_i + c) / w_i is how far the queue's virtual time has to move,
and meanwhile every other tenant j gets at most w_j v, and no more than what it waits for:

    wait = (b_i + c + sum over j of min(b_j, w_j v)) / rate

(generalised processor sharing, Parekh and Gallager 1993). So a tenant with a short line of its own is not refused for
another's long one, and on a server with one tenant the wait is simply the line by the rate.

A line is what the engines last said, corrected at once by what this gateway sent or got back since then. Of other
gateways nothing is heard in between: they are taken to send more when this one does, as requests are spread evenly.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from serving.request import Holding

LEARNING = 0.1  # weight of the latest observation
STEPS = 1.5  # half of the running one, and its own, whose rows are answered together
LONG_LINE_STEPS = 4.0  # of shorter ones the wait says more about the running step than about the rate
ROOM = 0.9  # of the engines' queues is used: what comes in at the same moment elsewhere must find room, too
CORRECTION = (1.0, 4.0)  # how much slower than they say the engines may be taken to be


@dataclass(frozen=True, slots=True)
class Work:
    """What a request asks of the engines: tokens x layers, and rows."""

    cost: float
    rows: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a request has before it: seconds of line at the rate that the engines say, and the wait that is expected.

    `fits`: whether the engines' queues have room for its rows, or make room at the cost of a longer line; a request of
    which one row is refused is lost as a whole.
    """

    line_s: float
    wait_s: float
    own: float  # cost of the tenant's line with the request
    fits: bool = True

    def unused(self, cost: float, elapsed_s: float) -> float:
        """What of a request's cost should not have run after so many seconds: its rows are the last of the line."""
        if self.wait_s <= 0:
            return 0.0
        return min(cost, max(0.0, self.wait_s - elapsed_s) * self.own / self.wait_s)


@dataclass(slots=True)
class _Line:
    """A tenant: what the engines told of its line, and what this gateway has on its way, now and when they told it."""

    weight: float
    told: float = 0.0
    sent: float = 0.0
    reported: float = 0.0
    requests: int = 0
    waiting: float = 0.0  # made of the three above, at every change
    correction: float = 1.0  # how much longer than foretold its requests waited


class Forecast:
    """Predicts waits; `add` and `remove` tell it of every request that is on its way.

    What the engines say of their rate is corrected for each tenant by the waits that it saw, in one direction only: where
    a line is so long that rows expire in it, those that are left wait less than was foretold, and to let more in for that
    would make the line longer still.
    """

    def __init__(
        self,
        holdings: Callable[[], Mapping[str, Holding]],
        gateways: Callable[[], int],
        weight: Callable[[str], float],
    ) -> None:
        self._holdings = holdings
        self._gateways = gateways
        self._weight = weight
        self._seen: Mapping[str, Holding] = {}
        self._live = 1
        self._rate = 0.0  # cost per second of all engines; 0 is not known
        self._rest = 0.0  # cost that waits, of tenants that were not named
        self._free: int | None = None  # rows that the engines' queues could take, when they last said
        self._rows = self._rows_reported = 0
        self._lines: dict[str, _Line] = {}
        self._step_s = 0.0

    def add(self, tenant: str, work: Work) -> None:
        """A request is on its way."""
        line = self._line(tenant)
        line.requests += 1
        self._change(line, work.cost, work.rows)

    def remove(self, tenant: str, work: Work) -> None:
        """A request that was added has ended."""
        line = self._lines[tenant]
        line.requests -= 1
        if not line.requests:
            line.sent = work.cost  # without what floating point left
        self._change(line, -work.cost, -work.rows)
        if _idle(line):
            del self._lines[tenant]

    def correct(self, tenant: str, old: Work, new: Work) -> None:
        """The work of a request that was added is known better."""
        self._change(self._lines[tenant], new.cost - old.cost, new.rows - old.rows)

    def outlook(self, tenant: str, work: Work) -> Outlook | None:
        """What a request has before it; None where no rate is known, or nothing waits."""
        self._follow()
        if not self._rate:
            return None
        held = self._lines.get(tenant)
        mine, weight, correction = (held.waiting, held.weight, held.correction) if held else (0.0, 0.0, 1.0)
        if not mine and not self._rest and not any(line.waiting for line in self._lines.values()):
            return None
        mine += work.cost
        virtual = mine / (weight or self._weight(tenant))
        beside = [line for line in self._lines.values() if line is not held]
        others = sum(min(line.waiting, line.weight * virtual) for line in beside)
        line_s = (mine + others + min(self._rest, virtual)) / self._rate
        # In a full queue a row takes the place of one of the longest line, so that only that line's tenant is refused.
        fits = self._fits(work.rows) or mine < max((line.waiting for line in beside), default=0.0)
        return Outlook(line_s, line_s * correction + STEPS * self._step_s, mine, fits)

    def stepped(self, seconds: float) -> None:
        """A step of an engine took so long."""
        self._step_s = seconds if not self._step_s else _mixed(self._step_s, seconds)

    def observe(self, tenant: str, outlook: Outlook, seconds: float, *, ended: bool) -> None:
        """Learn how long a request waited in truth, or (not `ended`) at least.

        Each tenant has a correction of its own: one whose adapters take long to load must not shorten others' lines.
        """
        line = self._lines.get(tenant)
        if line is None or outlook.line_s < LONG_LINE_STEPS * self._step_s or not self._step_s:
            return
        low, high = CORRECTION
        found = min(max((seconds - self._step_s) / outlook.line_s, low), high)
        if ended or found > line.correction:
            line.correction = _mixed(line.correction, found)

    def check(self) -> None:
        """Assert that the books are sound."""
        assert self._rows >= 0, f"{self._rows} rows are on their way"
        assert self._rows or not any(line.sent for line in self._lines.values()), "cost is on its way and no row"
        for tenant, line in self._lines.items():
            assert line.requests >= 0, f"{tenant} has {line.requests} requests on their way"
            assert line.requests or not line.sent, f"{tenant} has cost on its way and no request"
            assert not _idle(line), f"{tenant} is kept for nothing"
            assert line.waiting == self._waiting(line), f"{tenant} waits with {line.waiting}"

    def _line(self, tenant: str) -> _Line:
        if tenant not in self._lines:
            self._lines[tenant] = _Line(self._weight(tenant))
        return self._lines[tenant]

    def _change(self, line: _Line, cost: float, rows: int) -> None:
        line.sent += cost
        line.waiting = self._waiting(line)
        self._rows += rows

    def _waiting(self, line: _Line) -> float:
        return max(0.0, line.told + self._everywhere(line.sent - line.reported))

    def _fits(self, rows: int) -> bool:
        if self._free is None:
            return True
        return self._everywhere(self._rows - self._rows_reported) + rows <= ROOM * self._free

    def _everywhere(self, change: float) -> float:
        """What this gateway's change since the last report means for all of them."""
        return change * self._live if change > 0 else change

    def _follow(self) -> None:
        """Take over what the engines said, if they said something new."""
        holdings = self._holdings()
        if holdings.keys() == self._seen.keys() and all(self._seen[k] is held for k, held in holdings.items()):
            return
        self._seen = dict(holdings)
        used = [held for held in holdings.values() if held.warm] or list(holdings.values())
        rates = [held.cost_per_s for held in used if held.cost_per_s > 0]
        self._rate = sum(rates) * len(used) / len(rates) if rates else 0.0  # a new engine is as fast as the others
        free = [held.free_rows for held in used if held.free_rows is not None]
        self._free = sum(free) if free else None
        self._rows_reported = self._rows
        self._live = max(1, self._gateways())
        self._hear(holdings.values())

    def _hear(self, holdings: Collection[Holding]) -> None:
        for line in self._lines.values():
            line.told, line.reported = 0.0, line.sent
        for tenant, cost in (told for held in holdings for told in held.lines):
            self._line(tenant).told += cost
        named = sum(line.told for line in self._lines.values())
        self._rest = max(0.0, sum(held.queued_cost for held in holdings) - named)
        for tenant, line in list(self._lines.items()):
            if not line.told:  # not among the longest lines: what is ours is part of the rest
                line.told = min(line.sent, self._rest)
                self._rest -= line.told
            line.weight, line.waiting = self._weight(tenant), self._waiting(line)
            if _idle(line):
                del self._lines[tenant]


def _idle(line: _Line) -> bool:
    return not (line.requests or line.told or line.reported)


def _mixed(old: float, new: float) -> float:
    return old + LEARNING * (new - old)
