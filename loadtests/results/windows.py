"""A take cut along time: slices for pictures, phases for comparisons, blocks for the spread."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadtests.client.plan import RIGHT, Sample
from loadtests.results.record import Phase, Window
from loadtests.results.summing import by_tenant, found, sums_of, waits_of
from loadtests.scenarios.values import Times

WINDOWS = 60  # slices of a take at most
SLICE_S = 0.5  # and none shorter
BLOCKS = 5


def windows_of(samples: Sequence[Sample], seconds: float) -> tuple[Window, ...]:
    """Equal slices of the time in which requests were due, warm-up included."""
    count = max(1, min(WINDOWS, int(seconds / SLICE_S)))
    edges = np.linspace(0.0, seconds, count + 1)
    due = _binned(samples, edges, lambda sample: sample.intended)
    came = _binned([sample for sample in samples if sample.verdict == RIGHT], edges, lambda sample: sample.done)
    made = []
    for (start, end), asked, answered in zip(pairwise(edges), due, came, strict=True):
        width = float(end - start)
        rows = {name: sum(s.rows for s in own) / width for name, own in by_tenant(answered).items()}
        right = [sample for sample in asked if sample.verdict == RIGHT]
        offered, throughput = len(asked) / width, len(answered) / width
        made.append(Window(float(start), float(end), offered, throughput, waits_of(asked), found(right), rows))
    return tuple(made)


def phases_of(samples: Sequence[Sample], times: Times) -> tuple[Phase, ...]:
    """The phases, quiet and busy in turns after the warm-up; a last one that is not whole is left out.

    A quiet one after a busy one begins when that has settled.
    """
    if not times.phase_s:
        return ()
    apart = by_tenant(samples)
    made = []
    for number in range(int(times.seconds / times.phase_s + 1e-9)):
        start = times.warmup_s + number * times.phase_s
        end = start + times.phase_s
        if number and number % 2 == 0:
            start += times.settle_s
        tenants = {name: sums_of(own, start, end) for name, own in apart.items()}
        made.append(Phase(start, end, number % 2 == 1, sums_of(samples, start, end), tenants))
    return tuple(made)


def blocks_of(samples: Sequence[Sample], times: Times) -> tuple[tuple[float, float | None, float | None], ...]:
    """Throughput, p50 and p99 of equal parts of what is measured: how far they are apart is the run's own spread."""
    edges = np.linspace(times.warmup_s, times.warmup_s + times.seconds, BLOCKS + 1)
    parts = [sums_of(samples, float(start), float(end)) for start, end in pairwise(edges)]
    return tuple((part.right_per_s, part.waits.p50, part.waits.p99) for part in parts)


def pairs_of(phases: Sequence[Phase]) -> Iterator[tuple[Phase, Phase]]:
    """Each busy phase with the quiet one before it."""
    return ((quiet, busy) for quiet, busy in pairwise(phases) if busy.busy and not quiet.busy)


def _binned(
    samples: Sequence[Sample], edges: NDArray[np.float64], when: Callable[[Sample], float]
) -> list[list[Sample]]:
    bins: list[list[Sample]] = [[] for _ in edges[1:]]
    places = np.searchsorted(edges, [when(sample) for sample in samples], side="right") - 1
    for sample, place in zip(samples, places, strict=True):
        if 0 <= place < len(bins):
            bins[place].append(sample)
    return bins
