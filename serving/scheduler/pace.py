"""How much work makes a step of about the wanted length, learnt from the steps themselves.

A row waits for the step that runs when it arrives, and then for its own: the length of a step is the service's grain,
whoever fills it. So the cost of an ordinary step is bounded by what this machine does in `target_s`. A small step tells
little of that (its overhead dominates), so the rate is learnt from steps that were at least half full, and from faster ones.
"""

START_TOKENS = 512  # of the first step, of which nothing is known
_WEIGHT = 0.3  # of a new measurement


class Pace:
    """Cost units (layers x tokens) per second, and what fits in a step.

    `target_s` is the wanted length of an ordinary step, in seconds; `rate` is what is known before the first step: the
    first ones correct it as all others do.
    """

    def __init__(self, layers: int, target_s: float, rate: float = 0.0) -> None:
        self._layers = layers
        self.target_s = target_s
        self.rate = rate  # cost per second; 0 while it is not known

    @property
    def tokens(self) -> int:
        """Tokens that an ordinary step may hold to be done in time; at least one."""
        return self.tokens_in(self.target_s)

    @property
    def cost(self) -> int:
        """What an ordinary step may cost."""
        return self.tokens * self._layers

    def tokens_in(self, seconds: float) -> int:
        """Tokens that a step may hold to be done in so many seconds; at least one."""
        if not self.rate:
            return START_TOKENS
        return max(1, int(self.rate * seconds / self._layers))

    def learn(self, cost: int, seconds: float, *, full: bool) -> None:
        """A step of this cost took so long; `full` if no more rows could have gone with it."""
        if not cost or seconds <= 0:
            return
        rate = cost / seconds
        if not self.rate:
            self.rate = rate
        elif full or rate > self.rate or 2 * cost >= self.cost:
            self.rate += _WEIGHT * (rate - self.rate)

    def seconds(self, cost: float) -> float | None:
        """How long this much work takes; None while nothing is known."""
        return cost / self.rate if self.rate else None
