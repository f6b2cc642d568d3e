"""`python -m loadtests compare A B`: two runs side by side, or two steps of one, with ratios and their spread.

A side is the folder of a run, or FOLDER@STEP for one step of a sweep. `--within FIGURE=SHARE` makes it a check: exit code 1 where the
figure of B is worse than that of A by more than the share, and the spread does not explain it; else 0; 2 where there is no run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtests.pages.terminal import number
from loadtests.results.comparing import Line, NoStep, Side, compare, differences, side
from loadtests.results.folder import NoRun, read
from loadtests.scenarios.figures import FIGURES


def main(arguments: Sequence[str]) -> int:
    """Print the comparison."""
    args = argparse.ArgumentParser(prog="python -m loadtests compare", description=__doc__)
    args.add_argument("a", metavar="A")
    args.add_argument("b", metavar="B")
    args.add_argument("--within", action="append", default=[], metavar="FIGURE=SHARE", help="for example p99_ms=0.1")
    given = args.parse_args(arguments)
    try:
        bounds = dict(map(bound, given.within))
        a, b = (opened(word) for word in (given.a, given.b))
    except (NoRun, NoStep, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = compare(a, b)
    show(a, b, lines, Console())
    found = {line.figure: line for line in lines}
    broken = [figure for figure, share in bounds.items() if figure not in found or worse(found[figure], share)]
    for figure in broken:
        print(f"{figure}: worse by more than {bounds[figure]:g}, or not measured", file=sys.stderr)
    return 1 if broken else 0


def opened(word: str) -> Side:
    """A side by its folder, and its step after `@`; raises `NoRun`, `NoStep`."""
    if Path(word).exists():
        return side(read(Path(word)), None, word)
    folder, at, step = word.rpartition("@")
    return side(read(Path(folder if at else word)), step if at else None, word)


def bound(word: str) -> tuple[str, float]:
    """A figure and a share; raises `ValueError`."""
    figure, _, share = word.partition("=")
    if figure not in FIGURES or not FIGURES[figure].better:
        raise ValueError(f"--within {word}: name a figure of which less or more is better, as in p99_ms=0.1")
    if not (value := float(share)) >= 0 or value == float("inf"):
        raise ValueError(f"--within {word}: {share} is no share; give a number from 0, as in p99_ms=0.1")
    return figure, value


def worse(line: Line, share: float) -> bool:
    """Whether B is worse by more than the share even at the end of the interval that favours it.

    Beside a figure of 0 there is no share: any step to the worse counts. A figure that B alone lacks is worse.
    """
    less = FIGURES[line.figure].better == "less"
    if line.a is None or line.b is None:
        return line.b is None
    if line.ratio is None:
        return line.b > line.a if less else line.b < line.a
    if less:
        return (line.ratio if line.low is None else line.low) > 1 + share
    return (line.ratio if line.high is None else line.high) < 1 - share


def show(a: Side, b: Side, lines: Sequence[Line], console: Console) -> None:
    """What was said differently, then the figures."""
    for key, one, two in differences(a.run, b.run):
        console.print(f"{key}: {one} -> {two}", highlight=False, markup=False)
    table = Table(box=None)
    for name in ("figure", a.name, b.name, "B/A", "90 % of draws", ""):
        table.add_column(name, justify="left" if name == "figure" else "right", overflow="fold")
    for line in lines:
        spread = "" if line.low is None or line.high is None else f"{line.low:.3f} to {line.high:.3f}"
        table.add_row(
            line.figure,
            number(line.a),
            number(line.b),
            "-" if line.ratio is None else f"{line.ratio:.3f}",
            spread,
            verdict(line),
        )
    console.print(table)


def verdict(line: Line) -> str:
    """Whether B is better or worse, in a word; nothing where the spread does not tell."""
    better = FIGURES[line.figure].better
    if line.low is None or line.high is None or not better or line.low <= 1 <= line.high:
        return ""
    return "[green]better[/]" if (line.low > 1) == (better == "more") else "[red]worse[/]"
