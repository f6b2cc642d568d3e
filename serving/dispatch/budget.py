"""What retries may cost: a tenth of the rows, and a reserve that covers a replica's death with everything on board.

Without a limit a fault that returns rows would multiply the load just when there is least room for it.
"""

from collections.abc import Callable

RATIO = 0.1  # retries that a row pays for
REFILL_S = 60.0  # an empty reserve is whole again after this long without any rows


class RetryBudget:
    """A bucket of retries, full at first; `spend` is its one verb, rows and time fill it again."""

    def __init__(self, reserve: int, clock: Callable[[], float]) -> None:
        self._reserve = float(reserve)
        self._clock = clock  # seconds, monotonic
        self._left = self._reserve
        self._since = clock()

    def earn(self, rows: int) -> None:
        """Count rows that were taken in."""
        self._fill()
        self._left = min(self._reserve, self._left + RATIO * rows)

    def spend(self) -> bool:
        """Pay for one retry; False where nothing is left."""
        self._fill()
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def check(self) -> None:
        """Assert that the bucket is neither overdrawn nor overfull."""
        assert 0.0 <= self._left <= self._reserve, f"{self._left} of {self._reserve} retries are left"

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._reserve, self._left + (now - self._since) * self._reserve / REFILL_S)
        self._since = now
