"""Every picture of a run: its file, when there is one, and what the reader should see in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from loadtests.pages import along, load, percentiles, sweep, tenants
from loadtests.pages.canvas import Canvas
from loadtests.results.record import Run


@dataclass(frozen=True)
class Picture:
    """One picture; `draw` puts it on a canvas."""

    name: str
    title: str
    caption: str
    draw: Callable[[Run, Canvas], None]


def pictures_of(run: Run) -> Iterator[Picture]:
    """Those that this run has something for, the most telling first."""
    if load.applies(run):
        yield Picture(
            "load",
            "Throughput against offered load",
            "The knee is the largest load of which 95 % was still answered within its own time, before the first of which it was not. "
            "Where every load was answered, it lies beyond the last.",
            load.draw,
        )
    if sweep.applies(run):
        over = sweep.name(run)
        title = {"adapters": "Against the number of adapters", "cache": "Against the room on the device"}.get(over)
        yield Picture(over, title or "Against what was swept", "Dots are rounds, lines their medians.", sweep.draw)
    if tenants.applies(run):
        yield Picture("tenants", "Tenants", "Tinted: busy phases. A bar goes from the median to p99.", tenants.draw)
    caption = "Waits from the intended time on, by when requests were due."
    if any(take.phases for take in run.takes):
        caption += " Tinted: busy phases."
    if any(take.published for take in run.takes):
        caption += " Strokes along the top: publishes as they were acknowledged."
    yield Picture("time", "Along time", caption, along.draw)
    yield Picture(
        "percentiles", "Tail", "Every further nine of the percentile is as wide as the one before.", percentiles.draw
    )
