"""One request that was let in: it pays its exact cost, and however it ends, gives back what it did not use."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from serving.errors import DeadlineExceeded, NotReady, Overloaded, ServiceError
from serving.request import Refusal, Reply, Result
from serving.tenancy.forecast import Forecast, Outlook, Work
from serving.tenancy.meters import Meter

NOTHING = Work(0.0, 0)
UNRUN = frozenset({Overloaded.code, NotReady.code})  # refusals of rows that an engine did not take


class House(Protocol):
    """What a grant asks of the door that it came through. Implemented by `serving.tenancy.admission.Admission`."""

    def expect(self, tenant: str, work: Work, left_s: float) -> Outlook | None:
        """The wait before it; raises `Congested` where that is too long."""
        ...

    def learn(self, characters: int, cost: float) -> None:
        """A request of so many characters has this exact cost."""
        ...


class Grant:
    """A context manager; `paid` is the cost that was spent for it already, `expected` what the forecast counts."""

    def __init__(
        self,
        house: House,
        tenant: str,
        characters: int,
        *,
        meter: Meter,
        forecast: Forecast,
        clock: Callable[[], float],
        paid: float,
        expected: Work,
    ) -> None:
        self._house = house
        self._tenant = tenant
        self._characters = characters
        self._meter = meter
        self._forecast = forecast
        self._clock = clock
        self._paid = paid
        self._expected = expected
        self._sent_at: float | None = None
        self._outlook: Outlook | None = None
        self._unused: float | None = None  # not known before the replies are there

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = self._clock()
        self._meter.refund(self._left_over(now, error), now)
        self._meter.leave()
        self._forecast.remove(self._tenant, self._expected)

    def pay(self, work: Work, left_s: float) -> None:
        """Pay the exact cost; the rows are sent next. Raises as `Admission.enter` does, and like it spends nothing then."""
        now = self._clock()
        self._meter.refund(self._paid, now)
        self._paid = 0.0
        self._expect(NOTHING)
        try:
            self._meter.check_cost(work.cost, now)
            self._outlook = self._house.expect(self._tenant, work, left_s)
        except ServiceError:
            self._meter.refund(0.0, now, requests=1.0)
            raise
        self._meter.spend(work.cost, now)
        self._paid = work.cost
        self._expect(work)
        self._sent_at = now
        self._house.learn(self._characters, work.cost)

    def settle(self, costs: Sequence[float], replies: Sequence[Reply]) -> None:
        """The replies are there, one per row of these costs: rows that no engine took are given back."""
        assert self._sent_at is not None, "replies to what was never sent"
        pairs = list(zip(costs, replies, strict=True))
        self._unused = sum(cost for cost, reply in pairs if isinstance(reply, Refusal) and reply.code in UNRUN)
        timings = [reply.timing for reply in replies if isinstance(reply, Result)]
        if self._outlook is not None and any(
            isinstance(r, Refusal) and r.code == DeadlineExceeded.code for r in replies
        ):
            self._forecast.observe(self._tenant, self._outlook, self._clock() - self._sent_at, ended=False)
        if not timings:
            return
        self._forecast.stepped(max(timing.forward for timing in timings) / 1000)
        whole = len(timings) == len(replies) and not any(timing.load for timing in timings)
        if whole and self._outlook is not None:
            waited = max(timing.queue + timing.forward for timing in timings) / 1000
            self._forecast.observe(self._tenant, self._outlook, waited, ended=True)

    def _expect(self, work: Work) -> None:
        self._forecast.correct(self._tenant, self._expected, work)
        self._expected = work

    def _left_over(self, now: float, error: BaseException | None) -> float:
        """The part of what was paid that did not run."""
        if self._unused is not None:
            return self._unused
        if self._sent_at is None or isinstance(error, Overloaded | NotReady):
            return self._paid
        if self._outlook is None:  # nothing waited, so it ran
            return 0.0
        elapsed = now - self._sent_at
        self._forecast.observe(self._tenant, self._outlook, elapsed, ended=False)
        return self._outlook.unused(self._paid, elapsed)
