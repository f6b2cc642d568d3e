"""The time that a request has, measured from when it was read; every part of the way asks for what is left."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from serving.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on a monotonic clock (seconds)."""

    begun: float
    timeout_s: float
    clock: Callable[[], float]

    @classmethod
    def after(cls, timeout_s: float, clock: Callable[[], float]) -> Self:
        """The deadline of a request that begins now."""
        return cls(clock(), timeout_s, clock)

    @property
    def spent_s(self) -> float:
        """Seconds since the request began."""
        return self.clock() - self.begun

    @property
    def left_s(self) -> float:
        """Seconds until the answer is late; never less than nothing."""
        return max(0.0, self.timeout_s - self.spent_s)

    def check(self, before: str) -> None:
        """Raise `DeadlineExceeded` where no time is left: what comes next would be done for nobody."""
        if self.left_s <= 0:
            raise self.late(f"before {before}")

    def late(self, when: str = "") -> DeadlineExceeded:
        """The refusal."""
        return DeadlineExceeded(f"no answer within {self.timeout_s * 1000:.0f} ms{when and f': it passed {when}'}")
