"""The knee: up to which load all is answered that is asked, and how much is answered at most."""

from collections.abc import Sequence
from dataclasses import dataclass

ANSWERED = 0.95  # of what is offered, by the end of the step: less is a queue that grows, or refusals


@dataclass(frozen=True)
class Point:
    """One step: requests per second offered and rightly answered."""

    offered: float
    answered: float

    @property
    def keeps_up(self) -> bool:
        """Whether what is asked is answered."""
        return self.answered >= ANSWERED * self.offered


def knee_of(points: Sequence[Point]) -> Point | None:
    """The last point, by load, before the first that does not keep up; None where already the first does not.

    Where every point keeps up it is the last: how far it was looked, and no knee (`bends`).
    """
    found = None
    for point in sorted(points, key=lambda point: point.offered):
        if not point.keeps_up:
            return found
        found = point
    return found


def bends(points: Sequence[Point]) -> bool:
    """Whether more was offered somewhere than was answered: else the knee lies beyond the last point."""
    return not all(point.keeps_up for point in points)


def peak_of(points: Sequence[Point]) -> float:
    """The most that was answered."""
    return max(point.answered for point in points)
