"""Throughput, waits, hits and distinct adapters per batch against whatever is swept: adapters, cache room, bursts, laws."""

from collections.abc import Callable, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from loadtests.pages.canvas import Canvas, counts, gaps, legend, milliseconds
from loadtests.pages.style import BLUE, GREEN, ORANGE, PURPLE, RED, light
from loadtests.results.judging import by_step
from loadtests.results.record import Run, Take
from loadtests.scenarios.steps import WORDS, named
from loadtests.served.counters import TIERS

Pick = Callable[[Take], float | None]
LOGARITHMIC = 15.0  # times that the last value is the first, from which on their distances are told as ratios


def applies(run: Run) -> bool:
    """Where something else than the load is swept."""
    return run.scenario.sweep is not None and run.scenario.sweep.over not in ("rate", "load")


def name(run: Run) -> str:
    """Of the picture's file."""
    assert run.scenario.sweep is not None
    return {"adapters": "adapters", "device": "cache"}.get(run.scenario.sweep.over, "sweep")


def draw(run: Run, canvas: Canvas) -> None:
    """Four panels; rounds as dots, their medians as a line."""
    assert run.scenario.sweep is not None
    steps = by_step(run.takes)
    panels = canvas.panels(4, height=2.9)
    throughput, waits, hits, distinct = panels
    _line(throughput, steps, lambda take: take.sums.right_per_s, BLUE, "right answers per second")
    if steps[0][0].rate is not None:
        _line(throughput, steps, lambda take: take.sums.offered_per_s, ORANGE, "offered per second")
        legend(throughput, 1)
    throughput.set_title("Throughput, requests per second")
    counts(throughput)
    for percentile, role in (("p50", BLUE), ("p90", ORANGE), ("p99", RED)):
        _line(waits, steps, _waits(percentile), role, percentile)
    waits.set_title("Waits")
    milliseconds(waits)
    legend(waits, 3)
    for tier, role in zip(TIERS[:2], (BLUE, ORANGE), strict=True):
        _line(hits, steps, _hits(tier), role, tier)
    hits.set_ylim(-0.03, 1.03)
    hits.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    hits.set_title("Hit ratio of the tier")
    legend(hits, 2)
    _line(
        distinct,
        steps,
        lambda take: None if take.counted is None else take.counted.distinct_per_batch,
        PURPLE,
        "adapters",
    )
    _line(distinct, steps, lambda take: None if take.counted is None else take.counted.rows_per_batch, GREEN, "rows")
    distinct.set_title("In a batch, mean")
    counts(distinct)
    legend(distinct, 2)
    for axes in panels:
        _along(axes, steps)
    for axes in panels[-2 if canvas.wide else -1 :]:
        axes.set_xlabel(WORDS[run.scenario.sweep.over])


def _line(axes: Axes, steps: Sequence[Sequence[Take]], pick: Pick, role: str, label: str) -> None:
    places = _places(steps)
    middles = []
    for x, step in zip(places, steps, strict=True):
        values = [value for value in map(pick, step) if value is not None]
        middles.append(median(values) if values else None)
        if len(values) > 1:
            axes.plot([x] * len(values), values, "o", color=light(role), alpha=0.35, markersize=4, markeredgewidth=0)
    axes.plot(places, gaps(middles), color=light(role), marker="o", markersize=5, label=label)


def _waits(percentile: str) -> Pick:
    def pick(take: Take) -> float | None:
        value: float | None = getattr(take.sums.waits, percentile)
        return value

    return pick


def _hits(tier: str) -> Pick:
    """From the service's own counters where they may be read, else from what answers say of themselves."""

    def pick(take: Take) -> float | None:
        if take.counted is not None:
            return take.counted.hit_ratio[tier]
        return take.sums.found.get(tier)

    return pick


def _places(steps: Sequence[Sequence[Take]]) -> list[float]:
    """Where the steps lie: at their numbers, or evenly where they are words."""
    values = [step[0].value for step in steps]
    if any(isinstance(value, str) for value in values):
        return [float(number) for number in range(len(steps))]
    return [float(value) for value in values if value is not None and not isinstance(value, str)]


def _along(axes: Axes, steps: Sequence[Sequence[Take]]) -> None:
    places = _places(steps)
    if min(places) > 0 and max(places) / min(places) >= LOGARITHMIC:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, [named(step[0].value) for step in steps])
    axes.margins(x=0.06)
