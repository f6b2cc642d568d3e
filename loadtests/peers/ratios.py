"""How many times the throughput of a contender another one has: a ratio per round, and their quartiles."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A distribution: its median and quartiles, and of how many values."""

    median: float
    lower: float
    upper: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (inclusive method) of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper, len(values))


def ratio(top: Sequence[float], bottom: Sequence[float]) -> Spread:
    """Throughput of the one with the seconds `top` over that of the other, round by round."""
    return spread([slow / quick for quick, slow in zip(top, bottom, strict=True)])
