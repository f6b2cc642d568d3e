"""Waits by percentile, the tail spread out: one line per step, of its first round."""

import math
from collections.abc import Iterator

from loadtests.pages.canvas import Canvas, milliseconds
from loadtests.pages.style import BLUE, MUTED, SERIES, light
from loadtests.results.judging import by_step
from loadtests.results.record import Run, Waits
from loadtests.scenarios.steps import named

TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def draw(run: Run, canvas: Canvas) -> None:
    """One panel."""
    (axes,) = canvas.panels(1, height=3.5, columns=1)
    lines = list(_lines(run))
    reach = 0.0
    for number, (name, waits) in enumerate(lines):
        if not waits.curve:
            continue
        x = [_place(share) for share, _ in waits.curve]
        graded = len(lines) > len(SERIES) or run.scenario.sweep is not None
        role, alpha = (BLUE, 0.3 + 0.7 * number / max(1, len(lines) - 1)) if graded else (SERIES[number], 1.0)
        axes.plot(x, [wait for _, wait in waits.curve], color=light(role), alpha=alpha)
        if name:
            axes.annotate(
                name,
                (x[-1], waits.curve[-1][1]),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=light(MUTED),
            )
        reach = max(reach, x[-1])
    axes.set_xlim(0, max(reach, 1.0) * 1.1)
    milliseconds(axes)
    ticks = [tick for tick in TICKS if _place(tick) <= max(reach, 1.0) and (tick or canvas.wide)]
    axes.set_xticks([_place(tick) for tick in ticks], [f"{100 * tick:g} %" for tick in ticks])
    axes.set_title("Waits by percentile")
    axes.set_xlabel("of all right answers came within")


def _lines(run: Run) -> Iterator[tuple[str, Waits]]:
    for step in by_step(run.takes):
        yield named(step[0].value), step[0].sums.waits


def _place(share: float) -> float:
    """The tail spread out: every further nine is as wide as the one before."""
    return -math.log10(max(1e-9, 1 - share))
