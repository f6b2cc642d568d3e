"""What one tenant may still spend on one gateway: its requests and its cost per second, and its requests at once.

A gateway holds 1/G of a quota where G gateways live. What may be spent at once is a second of the quota, but never less
than one request, and never less cost than the longest row has: who may send rows at all may send any row.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from serving.errors import Overloaded, Unprocessable
from serving.registry.records import Quota
from serving.tenancy.buckets import TokenBucket

BURST_S = 1.0  # seconds of a quota that may be spent at once
LONGEST_WAIT_S = 3600.0  # told where a quota is zero: somebody has to raise it
CROWDED_WAIT_S = 0.5  # after which a request at once may have ended: nobody can know


@dataclass(frozen=True)
class Standing:
    """A quota as the tenant sees it: of all gateways together, as far as this one can tell."""

    name: str  # "requests", "cost" or "concurrency"
    unit: str
    quota: int  # what may be spent in a window, or be there at once
    remaining: int
    window_s: int | None = None
    reset_s: int | None = None  # until the whole quota is there again


class Meter:
    """The buckets of one tenant, and how many of its requests this gateway is answering.

    `largest` is the cost of the longest row.
    """

    def __init__(self, largest: float) -> None:
        self._largest = largest
        self._quota = Quota()
        self._gateways = 1
        self._requests: TokenBucket | None = None
        self._cost: TokenBucket | None = None
        self.running = 0

    def follow(self, quota: Quota, gateways: int, now: float) -> None:
        """Go by another quota, or by another number of gateways, from now on."""
        if (quota, gateways) == (self._quota, self._gateways):
            return
        self._quota, self._gateways = quota, gateways
        self._requests = _bucket(self._requests, quota.requests_per_s, gateways, 1.0, now)
        self._cost = _bucket(self._cost, quota.cost_per_s, gateways, self._largest / gateways, now)

    @property
    def limited(self) -> bool:
        """Whether the tenant's quota limits anything that is measured here."""
        quota = self._quota
        return any(limit is not None for limit in (quota.requests_per_s, quota.cost_per_s, quota.concurrency))

    def fresh(self, now: float) -> bool:
        """Whether a new meter of this quota would say the same: nothing runs, and nothing that was spent is missing."""
        return not self.running and all(b is None or b.full_in(now) <= 0 for b in (self._requests, self._cost))

    def check_enter(self, least: float, likely: float, now: float) -> None:
        """Raise `Overloaded` where another request has to wait, `Unprocessable` where it may never run.

        Its cost is not known yet: at least `least`, and it waits until half of what is `likely` could be paid.
        """
        if self._requests is not None:
            wait = self._requests.wait(1.0, now)
            if wait > 0:
                raise _limited("requests_per_s", self._quota.requests_per_s, wait)
        self.check_cost(least, now, likely=likely / 2)
        cap = self.most_at_once
        if cap is not None and self.running >= cap:
            detail = f"{self.running} requests of this tenant are being answered, and its quota is {cap} at once"
            if self._gateways > 1:
                detail += f" on each of {self._gateways} gateways ({self._quota.concurrency} together)"
            raise Overloaded(detail, code="too_many_concurrent", retry_after=CROWDED_WAIT_S)

    def check_cost(self, cost: float, now: float, *, likely: float = 0.0) -> None:
        """Raise `Overloaded` where this much more cost has to wait, `Unprocessable` where it is more than a burst."""
        if self._cost is None:
            return
        most = self.burst
        if cost > most:
            detail = (
                f"the request costs at least {cost:.0f} units (tokens x layers), and the tenant's quota of "
                f"{self._quota.cost_per_s:g} units per second lets {most:.0f} be spent at once: send fewer or shorter inputs"
            )
            raise Unprocessable(detail, code="costs_too_much", pointer="/inputs")
        wait = self._cost.wait(max(cost, likely), now)
        if wait > 0:
            raise _limited("cost_per_s", self._quota.cost_per_s, wait)

    def enter(self) -> None:
        """One more request is being answered."""
        self.running += 1

    def leave(self) -> None:
        """One less."""
        self.running -= 1

    def spend(self, cost: float, now: float, *, requests: float = 0.0) -> None:
        """Take from the buckets, whatever they hold: ask the checks first."""
        if self._requests is not None:
            self._requests.take(requests, now)
        if self._cost is not None:
            self._cost.take(cost, now)

    def refund(self, cost: float, now: float, *, requests: float = 0.0) -> None:
        """Give back what was spent and not used."""
        if self._requests is not None:
            self._requests.refund(requests, now)
        if self._cost is not None:
            self._cost.refund(cost, now)

    @property
    def most_at_once(self) -> int | None:
        """Requests at once that this gateway answers: its part of the quota, but at least one."""
        cap = self._quota.concurrency
        return None if cap is None else max(1, cap // self._gateways) if cap > 0 else 0

    @property
    def burst(self) -> float:
        """The most cost that one request may have, on however many gateways; infinite without a quota."""
        rate = self._quota.cost_per_s
        return math.inf if rate is None else max(rate * BURST_S, self._largest) if rate > 0 else 0.0

    def standings(self, now: float) -> Iterator[Standing]:
        """The quotas, and what is left of them."""
        for name, unit, bucket in (("requests", "requests", self._requests), ("cost", "cost-units", self._cost)):
            if bucket is not None:
                yield _standing(name, unit, bucket, self._gateways, now)
        cap = self.most_at_once
        if cap is not None:
            most = cap * self._gateways
            left = max(0, cap - self.running) * self._gateways
            yield Standing("concurrency", "concurrent-requests", most, left)

    def check(self) -> None:
        """Assert that the books are sound."""
        assert self.running >= 0, f"{self.running} requests are being answered"
        for bucket in (self._requests, self._cost):
            if bucket is not None:
                bucket.check()


def _bucket(
    held: TokenBucket | None, rate: float | None, gateways: int, least: float, now: float
) -> TokenBucket | None:
    if rate is None:
        return None
    mine = rate / gateways
    burst = max(mine * BURST_S, least) if rate > 0 else 0.0
    if held is None:
        return TokenBucket(mine, burst, now)
    held.tune(mine, burst, now)
    return held


def _limited(name: str, quota: float | None, wait: float) -> Overloaded:
    detail = f"the tenant's quota {name} is {quota:g}, and it is spent"
    return Overloaded(detail, code="rate_limited", retry_after=min(wait, LONGEST_WAIT_S))


def _standing(name: str, unit: str, bucket: TokenBucket, gateways: int, now: float) -> Standing:
    quota = math.floor(bucket.burst * gateways)
    window = bucket.burst / bucket.rate if bucket.rate > 0 else LONGEST_WAIT_S
    remaining = math.floor(max(0.0, bucket.level(now)) * gateways)
    reset = min(bucket.full_in(now), LONGEST_WAIT_S)
    return Standing(name, unit, quota, min(remaining, quota), math.ceil(window), math.ceil(reset))
