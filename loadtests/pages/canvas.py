"""A figure of one of two widths, and what becomes of it: a PNG, or an SVG that goes into a page."""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from loadtests.pages.style import GRID, MUTED, PAPER, RC, light, themed

WIDE, NARROW = 10.2, 4.0  # inches; the page shows the narrow one on a phone
DPI = 170


@dataclass(frozen=True)
class Canvas:
    """Where a picture is drawn: panels side by side where there is room, else one below the other."""

    figure: Figure
    wide: bool

    def panels(self, count: int, height: float = 3.3, columns: int = 2) -> list[Axes]:
        """So many panels of a height (inches); on a narrow canvas one column."""
        across = min(count, columns) if self.wide else 1
        rows = math.ceil(count / across)
        self.figure.set_size_inches(WIDE if self.wide else NARROW, rows * height + 0.15)
        grid = self.figure.subplots(rows, across, squeeze=False)
        flat = list(grid.flat)
        for spare in flat[count:]:
            spare.remove()
        return flat[:count]


Draw = Callable[[Canvas], None]


def png(draw: Draw, path: Path) -> None:
    """Write the wide picture."""
    with rc_context(dict(RC)):
        _drawn(draw, wide=True).savefig(path, dpi=DPI, facecolor=light(PAPER))


def svg(draw: Draw, name: str, *, wide: bool) -> str:
    """The picture for the page: as wide as its place, in the colours of the page's theme; `name` is its own in the page."""
    out = io.StringIO()
    with rc_context(dict(RC)):
        _drawn(draw, wide=wide).savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return themed(_unique(text, f"{name}-{'wide' if wide else 'narrow'}-"))


def gaps(values: Sequence[float | None]) -> list[float]:
    """Numbers with a gap in the line where there is none."""
    return [math.nan if value is None else value for value in values]


def milliseconds(axes: Axes) -> None:
    """A logarithmic axis of waits, with numbers that are read at once."""
    if not math.isfinite(axes.yaxis.get_minpos()):
        axes.annotate("no right answers", (0.5, 0.5), xycoords="axes fraction", ha="center", color=light(MUTED))
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high / low > 3000 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: wait(value)))
    if high / low <= 60:  # of more decades the lines between the numbers would be too many
        axes.grid(which="minor", axis="y", linewidth=0.4, color=light(GRID))


def counts(axes: Axes) -> None:
    """An axis of rates that begins at nothing."""
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))


def legend(axes: Axes, columns: int = 4) -> None:
    """A legend above the panel: beside its title, or below it where there is no room for both."""
    figure = axes.get_figure(root=True)
    wide = figure is not None and figure.get_figwidth() > NARROW
    if not wide:
        axes.set_title(axes.get_title(loc="left"), pad=22)
    axes.legend(
        loc="lower right" if wide else "lower left",
        bbox_to_anchor=(1.01, 0.985) if wide else (-0.01, 0.985),
        ncols=columns,
        handlelength=1.2 if wide else 0.8,
        columnspacing=1.0 if wide else 0.7,
        handletextpad=0.5,
        borderaxespad=0.1,
    )


def mark(axes: Axes, x: float, text: str, role: str = MUTED) -> None:
    """A vertical line with a word at its foot."""
    axes.axvline(x, color=light(role), linewidth=1.1, linestyle=(0, (3, 2)))
    axes.annotate(
        text,
        (x, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        color=light(role),
        fontsize=8.5,
    )


def wait(value: float) -> str:
    """Milliseconds in few letters."""
    if value >= 1000:
        return f"{value / 1000:g} s"
    return f"{value:g} ms"


def _drawn(draw: Draw, *, wide: bool) -> Figure:
    figure: Any = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    draw(Canvas(figure, wide))
    made: Figure = figure
    return made


def _unique(text: str, prefix: str) -> str:
    """Ids of one SVG must not meet those of another one in the same page."""
    for name in sorted(set(re.findall(r'id="([^"]+)"', text)), key=len, reverse=True):
        text = (
            text.replace(f'id="{name}"', f'id="{prefix}{name}"')
            .replace(f'"#{name}"', f'"#{prefix}{name}"')
            .replace(f"url(#{name})", f"url(#{prefix}{name})")
        )
    return text
