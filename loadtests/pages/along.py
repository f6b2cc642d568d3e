"""A run along time: fans of percentiles with publishes marked, offered and answered rates, and where adapters were found."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from loadtests.pages.canvas import Canvas, counts, gaps, legend, milliseconds
from loadtests.pages.style import BLUE, GREEN, MUTED, ORANGE, PURPLE, light
from loadtests.results.judging import by_step
from loadtests.results.record import Run, Take, Window
from loadtests.scenarios.steps import named
from loadtests.served.counters import TIER_WORDS, TIERS

BANDS = (("p50", "p75", 0.5), ("p75", "p90", 0.34), ("p90", "p95", 0.22), ("p95", "p99", 0.13))
TIER_ROLES = dict(zip(TIERS, (BLUE, ORANGE, PURPLE), strict=True))
PANELS = 9


def draw(run: Run, canvas: Canvas) -> None:
    """Of one step three panels, of several a fan each; of several rounds the first."""
    first = [step[0] for step in by_step(run.takes)]
    if len(first) == 1:
        one, two, three = canvas.panels(3, height=2.5, columns=1)
        fan(one, first[0])
        _rates(two, first[0])
        _found(three, first[0])
        three.set_xlabel("seconds")
        return
    panels = canvas.panels(min(len(first), PANELS), height=2.5, columns=3 if len(first) > 4 else 2)
    assert run.scenario.sweep is not None
    for axes, take in zip(panels, spread(first), strict=True):
        fan(axes, take, title=f"{run.scenario.sweep.over} {named(take.value)}", alone=False)
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.figure.legend(handles, labels, loc="outside upper right", ncols=6 if canvas.wide else 3, handlelength=1.2)
    high = max(axes.get_ylim()[1] for axes in panels)
    low = min(axes.get_ylim()[0] for axes in panels)
    for axes in panels:
        axes.set_ylim(low, high)
        milliseconds(axes)
    panels[-1].set_xlabel("seconds")


def spread(takes: Sequence[Take]) -> list[Take]:
    """As many of the steps as there are panels, from the first to the last."""
    if len(takes) <= PANELS:
        return list(takes)
    return [takes[round(place * (len(takes) - 1) / (PANELS - 1))] for place in range(PANELS)]


def fan(axes: Axes, take: Take, title: str = "Waits", *, alone: bool = True) -> None:
    """Percentiles of the waits of what was due at a time; phases shaded, publishes as strokes along the top."""
    middle = _middles(take.windows)
    for low, high, alpha in BANDS:
        lower, upper = (gaps([getattr(window.waits, name) for window in take.windows]) for name in (low, high))
        axes.fill_between(middle, lower, upper, color=light(BLUE), alpha=alpha, linewidth=0, label=high)
    p50 = gaps([window.waits.p50 for window in take.windows])
    axes.plot(middle, p50, color=light(BLUE), label="p50", linewidth=1.6)
    axes.set_xlim(0, take.windows[-1].end)
    milliseconds(axes)
    _shade(axes, take, word=alone)
    strokes = [one.done for one in take.published if one.status in (200, 201)]
    if strokes:
        axes.plot(
            strokes,
            [0.975] * len(strokes),
            "|",
            transform=axes.get_xaxis_transform(),
            color=light(GREEN),
            markersize=7,
            markeredgewidth=0.9,
            label="publish",
        )
    axes.set_title(title)
    if alone:
        legend(axes, 6 if strokes else 5)


def _rates(axes: Axes, take: Take) -> None:
    middle = _middles(take.windows)
    if take.rate is not None:
        offered = [window.offered_per_s for window in take.windows]
        axes.plot(middle, offered, color=light(MUTED), linewidth=1.2, label="offered")
    axes.plot(middle, [window.right_per_s for window in take.windows], color=light(BLUE), label="answered")
    axes.set_xlim(0, take.windows[-1].end)
    counts(axes)
    _shade(axes, take)
    axes.set_title("Requests per second")
    legend(axes, 2)


def _found(axes: Axes, take: Take) -> None:
    shares = [gaps([window.found.get(tier) for window in take.windows]) for tier in TIERS]
    colours = [light(TIER_ROLES[tier]) for tier in TIERS]
    axes.stackplot(
        _middles(take.windows),
        *shares,
        colors=colours,
        alpha=0.75,
        labels=[TIER_WORDS[tier] for tier in TIERS],
        linewidth=0,
    )
    axes.set_xlim(0, take.windows[-1].end)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _shade(axes, take)
    axes.set_title("Adapter found on")
    legend(axes, 3)


def _shade(axes: Axes, take: Take, *, word: bool = False) -> None:
    """Warm-up and busy phases, behind everything."""
    if take.warmup_s:
        axes.axvspan(0, take.warmup_s, color=light(MUTED), alpha=0.14, linewidth=0, zorder=0)
    if take.warmup_s and word:
        axes.annotate(
            "warm-up",
            (0, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=7.5,
            color=light(MUTED),
        )
    for phase in take.phases:
        if phase.busy:
            axes.axvspan(phase.start, phase.end, color=light(GREEN), alpha=0.1, linewidth=0, zorder=0)


def _middles(windows: Sequence[Window]) -> list[float]:
    return [(window.start + window.end) / 2 for window in windows]
