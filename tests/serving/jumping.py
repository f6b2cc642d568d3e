"""A clock that somebody sets while it is being looked at."""

from collections.abc import Callable
from itertools import count

HOUR = 3600.0


class Jumping:
    """Tells what `clock` tells until the look number `at` (from 1), and from that one on `by` seconds more."""

    def __init__(self, clock: Callable[[], float], at: int, by: float) -> None:
        self._clock = clock
        self._at = at
        self._by = by
        self._looks = count(1)  # counts right for any number of threads
        self.jumped = False

    def __call__(self) -> float:
        self.jumped = self.jumped or next(self._looks) >= self._at
        return self._clock() + self._by * self.jumped
