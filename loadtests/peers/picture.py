"""A bar for every ratio, with its quartiles: Chorus over each peer in the same precision."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from loadtests.peers.contenders import BF16, FP32
from loadtests.peers.report import title
from loadtests.peers.standing import Outcome, Pair

COLOURS = {FP32: "#8da2b5", BF16: "#c2571a"}
BAR_INCHES = 0.34


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write a PNG with a panel per backbone; a ratio that rests on wrong answers is not drawn."""
    panels = [bars(outcome) for outcome in outcomes]
    heights = [max(1, len(panel)) for panel in panels]
    figure = Figure(
        figsize=(10, 1.6 * len(panels) + BAR_INCHES * sum(heights)),
        layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15),
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, outcome, panel in zip(grid[:, 0], outcomes, panels, strict=True):
        _panel(axes, outcome, panel)
    figure.savefig(path, dpi=130)


def bars(outcome: Outcome) -> list[Pair]:
    """The pairs that are shown, from top to bottom: equal precision, adapters first, each peer's precisions together."""
    shown = [pair for pair in outcome.pairs() if pair.counts and pair.own.precision == pair.peer.precision]
    return sorted(shown, key=lambda pair: (pair.peer.method is None, title(pair.peer), pair.peer.precision != FP32))


def _panel(axes: Axes, outcome: Outcome, panel: Sequence[Pair]) -> None:
    for place, pair in enumerate(panel):
        spread = pair.spread
        axes.barh(place, spread.median, color=COLOURS[pair.peer.precision], height=0.72)
        axes.hlines(place, spread.lower, spread.upper, color="#222222", linewidth=1.2)
        axes.annotate(
            f"{spread.median:.1f}x",
            (max(spread.upper, spread.median), place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(panel)), [f"{title(pair.peer)}, {pair.peer.precision}" for pair in panel], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="#222222", linewidth=0.8)
    axes.set_xlim(left=0)
    axes.margins(x=0.1, y=0.02)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.set_title(f"{outcome.backbone}: {outcome.rows} rows, {outcome.tokens} tokens", loc="left", fontsize=11)
    axes.set_xlabel("throughput of Chorus over that of the peer, equal precision; medians and quartiles", fontsize=8)
