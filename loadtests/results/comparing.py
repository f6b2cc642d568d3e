"""Two sides of a comparison: their figures, the ratios, and how far these ratios can be trusted.

A side is a run, or one step of a run. The spread of a ratio is what it would have been had other parts of the same runs been
measured: throughput, p50 and p99 of equal parts of every take are drawn again and again, and the ratio of their medians
taken (a bootstrap); the interval holds nine tenths of them. Intervals that hold 1 tell of no difference. A sweep's figures are those
of its worst step, of which the parts of all steps say nothing: there is an interval only where both sides are one step.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from loadtests.results.judging import by_step, figures_of
from loadtests.results.record import Run, Take
from loadtests.scenarios.figures import FIGURES
from loadtests.scenarios.steps import named

DRAWS = 2000
INTERVAL = (5, 95)
BLOCKS = ("throughput", "p50_ms", "p99_ms")  # figures that blocks hold, in their order


@dataclass(frozen=True)
class Side:
    """One side: its name, its takes, and all that was said when it was run."""

    name: str
    run: Run
    takes: tuple[Take, ...]


@dataclass(frozen=True)
class Line:
    """One figure of both sides. `low` and `high` are the ends of the ratio's interval, where it has one."""

    figure: str
    a: float | None
    b: float | None
    ratio: float | None
    low: float | None
    high: float | None


class NoStep(Exception):
    """A run has no such step; the message names those that it has."""


def side(run: Run, step: str | None, name: str) -> Side:
    """A run, or the takes of one of its steps; raises `NoStep`."""
    if step is None:
        return Side(name, run, run.takes)
    takes = tuple(take for take in run.takes if named(take.value) == step)
    if not takes:
        there = ", ".join(dict.fromkeys(named(take.value) for take in run.takes)).strip(", ")
        raise NoStep(f"{name} has no step {step!r}: {f'there are {there}' if there else 'it sweeps nothing'}")
    return Side(name, run, takes)


def compare(a: Side, b: Side, seed: int = 0) -> list[Line]:
    """One line per figure that both sides have."""
    rng = np.random.default_rng(seed)
    one, two = (_figures(held) for held in (a, b))
    lines = []
    for figure in FIGURES:
        if figure not in one or figure not in two or one[figure] is two[figure] is None:
            continue
        before, after = one[figure], two[figure]
        ratio = after / before if before and after is not None else None
        low, high = _interval(a, b, figure, rng) if figure in BLOCKS and ratio is not None else (None, None)
        lines.append(Line(figure, before, after, ratio, low, high))
    return lines


def differences(a: Run, b: Run) -> list[tuple[str, Any, Any]]:
    """What was said differently: members of the scenario, of the service, of the machine, versions."""
    found = []
    for table in ("scenario", "service", "environment", "population"):
        one, two = (_flat(table, asdict(run)[table]) for run in (a, b))
        found += [(key, one.get(key), two.get(key)) for key in {**one, **two} if one.get(key) != two.get(key)]
    passing = ("environment.load_average", "service.digest", "service.budgets", "population.nearest")
    return [difference for difference in found if not difference[0].startswith(passing)]


def _figures(held: Side) -> dict[str, float | None]:
    """Of one step the figures are its own, not the worst of all."""
    whole = held.takes == held.run.takes
    return dict(held.run.figures) if whole else figures_of(replace(held.run.scenario, sweep=None), held.takes)


def _interval(a: Side, b: Side, figure: str, rng: np.random.Generator) -> tuple[float | None, float | None]:
    one, two = (_blocks(held.takes, BLOCKS.index(figure)) for held in (a, b))
    if len(one) < 3 or len(two) < 3:
        return None, None
    draws = [np.median(rng.choice(values, size=(DRAWS, len(values))), axis=1) for values in (one, two)]
    if not draws[0].all():  # over nothing there is no ratio
        return None, None
    low, high = np.percentile(draws[1] / draws[0], INTERVAL)
    return float(low), float(high)


def _blocks(takes: Sequence[Take], place: int) -> list[float]:
    """The figure of every part; none at all of a sweep, or where a part has none (waits without an answer)."""
    values = [block[place] for take in takes for block in take.blocks]
    there = [value for value in values if value is not None]
    return there if len(there) == len(values) and len(by_step(takes)) == 1 else []


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {key: held for name, inner in value.items() for key, held in _flat(f"{prefix}.{name}", inner).items()}
