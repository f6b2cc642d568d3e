"""Throughput and waits against the offered load, with the knee."""

from collections.abc import Callable, Sequence
from statistics import median

from matplotlib.axes import Axes

from loadtests.pages.canvas import Canvas, counts, gaps, legend, mark, milliseconds
from loadtests.pages.style import BLUE, GREEN, MUTED, ORANGE, RED, light
from loadtests.results.judging import by_step, points_of
from loadtests.results.knee import bends, knee_of
from loadtests.results.record import Run, Take

Step = Sequence[Take]


def applies(run: Run) -> bool:
    """Where the load is what is swept."""
    return run.scenario.sweep is not None and run.scenario.sweep.over in ("rate", "load")


def draw(run: Run, canvas: Canvas) -> None:
    """Two panels: what was answered of what was asked, and how long it took."""
    steps = sorted(by_step(run.takes), key=lambda step: median(take.sums.offered_per_s for take in step))
    left, right = canvas.panels(2, height=3.6)
    points = points_of(steps)
    knee = knee_of(points)
    _throughput(left, steps)
    _waits(right, steps)
    if knee is not None and not bends(points):
        mark(left, knee.offered, f"no knee up to {knee.offered:.0f}/s", MUTED)
    elif knee is not None:
        mark(left, knee.offered, f"knee {knee.offered:.0f}/s", GREEN)
        mark(right, knee.offered, "knee", GREEN)


def _throughput(axes: Axes, steps: Sequence[Step]) -> None:
    offered = _each(steps, lambda take: take.sums.offered_per_s)
    answered = _each(steps, lambda take: take.sums.right_per_s)
    most = max(offered) * 1.05
    axes.plot([0, most], [0, most], color=light(MUTED), linewidth=1, linestyle=(0, (1, 2)), label="all of it")
    axes.fill_between(offered, answered, offered, color=light(RED), alpha=0.12, linewidth=0, label="not answered")
    axes.plot(offered, answered, color=light(BLUE), marker="o", markersize=5, label="answered")
    _spread(axes, steps)
    axes.set_xlim(0, most)
    counts(axes)
    axes.set_title("Answered")
    axes.set_xlabel("offered requests per second")
    axes.set_ylabel("right answers per second")
    legend(axes, 3)


def _waits(axes: Axes, steps: Sequence[Step]) -> None:
    offered = _each(steps, lambda take: take.sums.offered_per_s)
    for name, role in (("p50", BLUE), ("p90", ORANGE), ("p99", RED)):
        values = [_middle([getattr(take.sums.waits, name) for take in step]) for step in steps]
        axes.plot(offered, gaps(values), color=light(role), marker="o", markersize=4, label=name)
    axes.set_xlim(0, max(offered) * 1.05)
    milliseconds(axes)
    axes.set_title("Waits")
    axes.set_xlabel("offered requests per second")
    legend(axes, 3)


def _spread(axes: Axes, steps: Sequence[Step]) -> None:
    """From the least to the most of the rounds."""
    for step in steps:
        if len(step) > 1:
            x = median(take.sums.offered_per_s for take in step)
            ends = [take.sums.right_per_s for take in step]
            axes.plot([x, x], [min(ends), max(ends)], color=light(BLUE), linewidth=4, alpha=0.3)


def _each(steps: Sequence[Step], pick: Callable[[Take], float]) -> list[float]:
    return [median(map(pick, step)) for step in steps]


def _middle(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None
