"""What a library offers once it has loaded its work: runs, each a piece of work that can be timed and looked at."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.peers.contenders import PADDED, SORTED
from loadtests.peers.messages import RunName
from loadtests.peers.padding import Batch, by_length, in_order_of_arrival

States = NDArray[np.float32]
SIZES = (4, 8, 16, 32)  # of sorted batches
TRIES = 4


@dataclass(frozen=True)
class Run:
    """`go` is what is timed; `rows` makes of its result the last hidden states [length, hidden] of every row."""

    go: Callable[[], Any]
    rows: Callable[[Any], list[States]]
    note: str = ""


@dataclass(frozen=True)
class Opened:
    """A library that has loaded its work; `versions` of what it consists of."""

    versions: Mapping[str, str]
    runs: Mapping[RunName, Run]


def over(
    batches: Sequence[Batch], forward: Callable[[int], Any], states: Callable[[Any], States], note: str = ""
) -> Run:
    """A run that is one `forward` per batch, which gets its number.

    `states` tells the hidden states [rows, longest, hidden] of what it returned.
    """

    def rows(results: Sequence[Any]) -> list[States]:
        found = {
            place: np.array(own)
            for batch, result in zip(batches, results, strict=True)
            for place, own in batch.taken(states(result))
        }
        return [found[place] for place in sorted(found)]

    return Run(lambda: [forward(number) for number in range(len(batches))], rows, note)


def bare_runs(
    rows: Sequence[Sequence[int]],
    run_of: Callable[[Sequence[Batch], str], Run],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[RunName, Run]:
    """The backbone alone on padded rows, as they came and sorted by length; `run_of` makes a run with a note.

    How many rows a sorted batch holds is what is quickest on these very rows.
    """
    sizes = [size for size in SIZES if size <= len(rows)] or [len(rows)]
    candidates = [run_of(by_length(rows, size), f"batches of {size}") for size in sizes]
    return {
        (PADDED, None): run_of((in_order_of_arrival(rows),), ""),
        (SORTED, None): candidates[_quickest(candidates, clock)],
    }


def _quickest(candidates: Sequence[Run], clock: Callable[[], float]) -> int:
    """The number of the one with the quickest pass, of several that each has in turn after a first one."""
    best = [math.inf] * len(candidates)
    for turn in range(TRIES + 1):
        for number, run in enumerate(candidates):
            start = clock()
            run.go()
            if turn:
                best[number] = min(best[number], clock() - start)
    return best.index(min(best))
