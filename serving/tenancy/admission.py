"""Who may come in: quotas and the predicted wait, asked before any work is done for a request and once its cost is known.

    with admission.enter(tenant, size, left_s) as grant:   # 429 or 503 before anything is looked up or tokenized
        grant.pay(cost, left_s)                            # the same with the exact cost; then the rows are sent
        grant.settle(costs, replies)                       # what did not run is given back

A refusal spends nothing: clients that try again do not push themselves further out. Whatever way a request ends, the end
of the `with` block gives back its place among the concurrent ones and the cost that was not used.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.errors import Congested, DeadlineExceeded
from serving.registry.records import Quota
from serving.request import Holding
from serving.tenancy.forecast import Forecast, Outlook, Work
from serving.tenancy.grants import Grant
from serving.tenancy.meters import Meter, Standing

SAFETY = 0.8  # of the time that is left may be predicted as wait: what comes in should end in time
RETRY_S = (0.25, 10.0)
CHARACTERS_PER_TOKEN = 4.0  # until requests have shown another figure
LEARNING = 0.05  # weight of the latest of them
METERS = 1000  # of tenants without a request that are kept at least


@dataclass(frozen=True, slots=True)
class Size:
    """What is known of a request before it is tokenized: its rows (at least), its characters, and an image's tokens."""

    rows: int
    characters: int
    tokens: int = 0  # that it has at least; a row has one


@dataclass(frozen=True, slots=True)
class Scale:
    """The backbone's layers, and the most tokens of a row: cost is tokens x layers."""

    layers: int
    max_tokens: int


class Admission:
    """The door of one gateway; `enter` is its verb. Belongs to one event loop.

    `clock` is monotonic (seconds); `jitter` gives numbers from 0 to 1, by which clients who come back are spread.
    """

    def __init__(
        self,
        scale: Scale,
        *,
        quota: Callable[[str], Quota],
        gateways: Callable[[], int],
        holdings: Callable[[], Mapping[str, Holding]],
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._scale = scale
        self._quota = quota
        self._gateways = gateways
        self._clock = clock
        self._jitter = jitter
        self._forecast = Forecast(holdings, self._live, lambda tenant: quota(tenant).weight)
        self._meters: dict[str, Meter] = {}
        self._most_meters = METERS  # until those of tenants that ask for nothing any more are forgotten
        self._cost_per_character = scale.layers / CHARACTERS_PER_TOKEN

    def enter(self, tenant: str, size: Size, left_s: float) -> Grant:
        """Let a request in that has so many seconds left; the least cost that it can have is spent at once.

        Raises `Overloaded` (429) over a quota, `Congested` (503) where it would wait longer than it can, `Unprocessable`
        where the quota could never pay for it, and `DeadlineExceeded` where its time is over.
        """
        now = self._clock()
        meter = self._meter(tenant, now)
        least = float(max(size.rows, size.tokens) * self._scale.layers)  # a row has one token at least
        likely = max(least, float(round(size.characters * self._cost_per_character)))
        expected = Work(likely, size.rows)
        if left_s <= 0:
            raise DeadlineExceeded("the request's time was over before its turn came")
        meter.check_enter(least, likely, now)
        self.expect(tenant, expected, left_s)
        meter.enter()
        meter.spend(least, now, requests=1.0)
        self._forecast.add(tenant, expected)
        return Grant(
            self,
            tenant,
            size.characters,
            meter=meter,
            forecast=self._forecast,
            clock=self._clock,
            paid=least,
            expected=expected,
        )

    def standings(self, tenant: str) -> tuple[Standing, ...]:
        """The tenant's quotas and what is left of them; empty for one without."""
        now = self._clock()
        return tuple(self._meter(tenant, now).standings(now))

    def expect(self, tenant: str, work: Work, left_s: float) -> Outlook | None:
        """The wait before so much more work, if it is known; raises `Congested` where that is too long."""
        outlook = self._forecast.outlook(tenant, work)
        if outlook is None or (outlook.fits and outlook.wait_s <= SAFETY * left_s):
            return outlook
        detail = f"this would wait {outlook.wait_s:.2f} s in line, and {left_s:.2f} s are left for it"
        if not outlook.fits:
            detail = f"the engines' queues have no room for {work.rows} more rows"
        low, high = RETRY_S
        wait = min(max(outlook.wait_s / 2, low), high) * (1.0 + self._jitter())
        raise Congested(detail, retry_after=wait)

    def learn(self, characters: int, cost: float) -> None:
        """A request of so many characters has this exact cost."""
        if characters:
            self._cost_per_character += LEARNING * (cost / characters - self._cost_per_character)

    def check(self) -> None:
        """Assert that the books are sound."""
        self._forecast.check()
        for meter in self._meters.values():
            meter.check()

    def _meter(self, tenant: str, now: float) -> Meter:
        meter = self._meters.get(tenant)
        if meter is None:
            if len(self._meters) >= self._most_meters:
                self._meters = {other: held for other, held in self._meters.items() if not held.fresh(now)}
                self._most_meters = 2 * len(self._meters) + METERS
            meter = self._meters[tenant] = Meter(float(self._scale.layers * self._scale.max_tokens))
        meter.follow(self._quota(tenant), self._live(), now)
        return meter

    def _live(self) -> int:
        return max(1, self._gateways())
