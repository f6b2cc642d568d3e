"""The token bucket: what may be spent at once, and how fast it comes back.

It goes into debt for an amount larger than itself, which a full bucket pays and then works off: so a tenant's share of
one gateway can be small without making its larger requests impossible, and the rate holds in the long run all the same.
"""

import math

EPSILON = 1e-9  # a bucket that lacks only what floating point lost is full


class TokenBucket:
    """Fills by `rate` per second up to `burst`. Times are seconds of any clock that never goes back."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def tune(self, rate: float, burst: float, now: float) -> None:
        """Go on with another rate and burst: what was spent stays spent, and a full bucket stays full."""
        spent = self.burst - self.level(now)
        self.rate, self.burst = rate, burst
        self._level = burst - spent

    def level(self, now: float) -> float:
        """What is there now; less than nothing while a debt is worked off."""
        if now > self._at:
            self._level = min(self.burst, self._level + self.rate * (now - self._at))
            self._at = now
        return self._level

    def wait(self, amount: float, now: float) -> float:
        """Seconds until the bucket can pay; 0 where it can now, infinite where it never fills."""
        lacking = min(amount, self.burst) - self.level(now)
        if self.rate <= 0:
            return math.inf
        return lacking / self.rate if lacking > EPSILON * max(1.0, self.burst) else 0.0

    def take(self, amount: float, now: float) -> None:
        """Spend, whatever is there: ask `wait` first."""
        self._level = self.level(now) - amount

    def refund(self, amount: float, now: float) -> None:
        """Give back what was taken and not used; the bucket never holds more than its burst."""
        self._level = min(self.burst, self.level(now) + amount)

    def full_in(self, now: float) -> float:
        """Seconds until nothing of the last spending is left to see."""
        lacking = self.burst - self.level(now)
        if lacking <= 0:
            return 0.0
        return lacking / self.rate if self.rate > 0 else math.inf

    def check(self) -> None:
        """Assert that the bucket holds no more than fits."""
        assert self._level <= self.burst + EPSILON * max(1.0, self.burst), f"{self._level} in a bucket of {self.burst}"
