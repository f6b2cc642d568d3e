"""What each tenant got: rows along time, and waits while it is quiet and while it is busy."""

from itertools import cycle
from statistics import median

from matplotlib.axes import Axes

from loadtests.pages.canvas import Canvas, counts, gaps, legend, milliseconds
from loadtests.pages.style import GREEN, MUTED, SERIES, light
from loadtests.results.record import Run, Take

QUIET, BUSY = "quiet", "busy"


def applies(run: Run) -> bool:
    """Where there are several tenants."""
    return len(run.scenario.tenants) > 1


def draw(run: Run, canvas: Canvas) -> None:
    """Two panels; of several takes, the first along time and all of them for the waits."""
    along, waits = canvas.panels(2, height=3.2)
    take = run.takes[0]
    middle = [(window.start + window.end) / 2 for window in take.windows]
    for tenant, role in zip(run.scenario.tenants, cycle(SERIES), strict=False):
        rows = [window.tenants.get(tenant.name, 0.0) for window in take.windows]
        label = tenant.name if tenant.weight == 1 else f"{tenant.name} (weight {tenant.weight:g})"
        along.plot(middle, rows, color=light(role), label=label)
    for phase in take.phases:
        if phase.busy:
            along.axvspan(phase.start, phase.end, color=light(GREEN), alpha=0.09, linewidth=0)
    along.set_xlim(take.warmup_s, take.windows[-1].end)
    counts(along)
    along.set_title("Rows per second")
    along.set_xlabel("seconds")
    legend(along, 3)
    _bars(waits, run)


def _bars(axes: Axes, run: Run) -> None:
    """From p50 to p99, quiet beside busy; one bar alone where there are no phases."""
    kinds = (QUIET, BUSY) if any(take.phases for take in run.takes) else ("",)
    ticks = []
    for number, (tenant, role) in enumerate(zip(run.scenario.tenants, cycle(SERIES), strict=False)):
        for place, kind in enumerate(kinds):
            x = number * (len(kinds) + 0.8) + place
            ends = [_wait(run.takes, tenant.name, kind, name) for name in ("p50", "p99")]
            ticks.append((x, f"{tenant.name}\n{kind}"))
            if None in ends:
                continue
            low, high = gaps(ends)
            axes.plot([x, x], [low, high], color=light(role), linewidth=9, alpha=0.35, solid_capstyle="butt")
            axes.plot([x], [low], "o", color=light(role), markersize=6)
            axes.plot([x], [high], "_", color=light(role), markersize=14, markeredgewidth=2)
    milliseconds(axes)
    axes.set_xticks([x for x, _ in ticks], [word for _, word in ticks])
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="x")
    axes.set_title("Waits, p50 to p99")
    axes.tick_params(axis="x", colors=light(MUTED))


def _wait(takes: tuple[Take, ...], tenant: str, kind: str, name: str) -> float | None:
    """The median over all phases of a kind; over all takes where there are none."""
    found: list[float | None] = []
    for take in takes:
        if kind:
            sums = [phase.tenants.get(tenant) for phase in take.phases if phase.busy == (kind == BUSY)]
        else:
            sums = [take.tenants.get(tenant)]
        found += [getattr(one.waits, name) for one in sums if one is not None]
    there = [value for value in found if value is not None]
    return median(there) if there else None
