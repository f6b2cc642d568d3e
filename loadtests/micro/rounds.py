"""Interleaved rounds: every contender runs once per round, in an order that turns, and ratios are taken within a round."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rounds:
    """Seconds per contender and round."""

    seconds: Mapping[str, tuple[float, ...]]

    def ratio(self, top: str, bottom: str) -> float:
        """Median over rounds of throughput(top) / throughput(bottom)."""
        pairs = zip(self.seconds[top], self.seconds[bottom], strict=True)
        return statistics.median(other / own for own, other in pairs)

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.seconds[name])


def interleave(
    contenders: Mapping[str, Callable[[], object]], rounds: int, warm_up: int, clock: Callable[[], float]
) -> Rounds:
    """Run every contender `warm_up` times, then `rounds` times in turn; whoever went first goes last in the next."""
    names = list(contenders)
    for name in names * warm_up:
        contenders[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            contenders[name]()
            seconds[name].append(clock() - start)
    return Rounds({name: tuple(values) for name, values in seconds.items()})
