"""One picture of a run: latency over time, offered and answered throughput, hit rate."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from loadtests.report import Report


def draw(report: Report, path: Path) -> None:
    """Write a PNG. The figure is made without pyplot, which keeps global state."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    latency, rate, hits = figure.subplots(3, 1, sharex=True)
    middle = [(window.start + window.end) / 2 for window in report.windows]
    _line(latency, middle, [window.p50 for window in report.windows], "p50")
    _line(latency, middle, [window.p99 for window in report.windows], "p99")
    latency.set_ylabel("latency, ms")
    latency.set_yscale("log")
    _line(rate, middle, [window.offered for window in report.windows], "offered")
    _line(rate, middle, [window.answered for window in report.windows], "answered")
    rate.set_ylabel("requests per second")
    rate.set_ylim(bottom=0)
    _line(hits, middle, [window.hit_rate for window in report.windows], "hit rate")
    hits.set_ylim(-0.02, 1.02)
    hits.set_ylabel("answers from the device tier")
    hits.set_xlabel("seconds since the start")
    for axes in (latency, rate, hits):
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
    figure.suptitle(
        f"{report.scenario}: {report.requests} requests, {report.distinct_adapters} adapters, "
        f"{report.wrong} wrong, {sum(report.errors.values())} errors"
    )
    figure.supxlabel(" · ".join(f"{key} {value}" for key, value in report.environment.items()), fontsize=7)
    figure.savefig(path, dpi=110)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float | None], label: str) -> None:
    """A line with gaps where a window held nothing."""
    axes.plot(x, [math.nan if value is None else value for value in y], marker=".", label=label)
