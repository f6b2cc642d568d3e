"""Which units of the arena are free: runs in order of address, neighbours always merged."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive units of the arena."""

    start: int
    units: int


class Runs:
    """The free runs among `units` units, after the `taken` ones are cut out."""

    def __init__(self, units: int, taken: Iterable[Run] = ()) -> None:
        self.units = units
        self._starts: list[int] = []
        self._sizes: list[int] = []
        at = 0
        for run in sorted(taken, key=lambda run: run.start):
            if run.units:
                self._append(at, run.start - at)
                at = run.start + run.units
        self._append(at, units - at)

    @property
    def free(self) -> int:
        """Units that are free in all."""
        return sum(self._sizes)

    def copy(self) -> "Runs":
        """The same runs, to try something out on."""
        twin = Runs(0)
        twin.units, twin._starts, twin._sizes = self.units, self._starts.copy(), self._sizes.copy()
        return twin

    def take(self, units: int) -> Run | None:
        """Cut from the tightest run that is long enough, the lowest of equals; None if there is no such run."""
        if units == 0:
            return Run(0, 0)
        fitting = [(size, i) for i, size in enumerate(self._sizes) if size >= units]
        if not fitting:
            return None
        size, i = min(fitting)
        run = Run(self._starts[i], units)
        if size == units:
            del self._starts[i], self._sizes[i]
        else:
            self._starts[i] += units
            self._sizes[i] -= units
        return run

    def give(self, run: Run) -> None:
        """Return a run that was taken, and merge it with its neighbours."""
        if run.units == 0:
            return
        i = bisect_left(self._starts, run.start)
        start, units = run.start, run.units
        if i < len(self._starts) and start + units == self._starts[i]:
            units += self._sizes[i]
            del self._starts[i], self._sizes[i]
        if i and self._starts[i - 1] + self._sizes[i - 1] == start:
            self._sizes[i - 1] += units
        else:
            self._starts.insert(i, start)
            self._sizes.insert(i, units)

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether runs of all these units could be taken together, largest first."""
        wanted = sorted(sizes, reverse=True)
        if sum(wanted) > self.free or (wanted and wanted[0] > max(self._sizes, default=0)):
            return False
        trial = self.copy()
        return all(trial.take(units) is not None for units in wanted)

    def check(self, taken: Iterable[Run]) -> tuple[str, ...]:
        """Every breach: free and taken runs must tile the arena exactly, and free neighbours must be merged."""
        free = [Run(start, size) for start, size in zip(self._starts, self._sizes, strict=True)]
        faults = [
            f"free runs at {a.start} and {b.start} touch" for a, b in pairwise(free) if b.start <= a.start + a.units
        ]
        at = 0
        for run in sorted((*free, *(run for run in taken if run.units)), key=lambda run: run.start):
            if run.start != at:
                faults.append(f"unit {min(at, run.start)} is {'lost' if run.start > at else 'held twice'}")
            at = run.start + run.units
        if at != self.units:
            faults.append(f"the runs end at {at} of {self.units}")
        return tuple(faults)

    def _append(self, start: int, units: int) -> None:
        assert units >= 0, (start, units)
        if units:
            self._starts.append(start)
            self._sizes.append(units)
