"""How long a step may be: short beside those who ask for little, longer where everybody waits for several steps anyway.

What a step costs beside its tokens is paid once, however long it is. So a queue is done sooner in long steps, and a row
that waits for many short ones would not notice one long one; a row that is alone in its line would.
"""

from collections.abc import Callable

from serving.scheduler.pace import Pace

PARTS = 4  # of what waits: a step holds one of them at most
LONGEST = 4.0  # times the ordinary step
REMEMBERED_S = 5.0  # for so long after somebody asked for little, he is expected again


class Stride:
    """The length of the next step, in ordinary ones of `pace` at least."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._pace = pace
        self._clock = clock  # seconds, monotonic
        self._short_until = float("-inf")

    def tokens(self, waiting: int, *, guests: bool) -> int:
        """Tokens of the next step; `waiting` is the cost of the queue, `guests` that a short line waits beside a long one."""
        return self._pace.tokens_in(self._seconds(self._pace.seconds(waiting), guests))

    def _seconds(self, waiting_s: float | None, guests: bool) -> float:
        now, ordinary = self._clock(), self._pace.target_s
        if guests:
            self._short_until = now + REMEMBERED_S
        if waiting_s is None or now < self._short_until:
            return ordinary
        return min(max(ordinary, waiting_s / PARTS), LONGEST * ordinary)
