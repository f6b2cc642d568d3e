"""A run in a few lines: what was measured, what it had to be, and where the report lies."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.results.record import Run
from loadtests.scenarios.figures import FIGURES, figure_of

SHOWN = (
    *("throughput", "rows_per_s", "p50_ms", "p90_ms", "p99_ms", "hit_ratio", "distinct_per_batch", "fairness"),
    *("busy_over_quiet_throughput", "busy_over_quiet_p99", "peak_rate", "knee_rate", "throughput_kept"),
)


def print_run(run: Run, written: Sequence[Path], console: Console | None = None) -> None:
    """Figures, checks, and the verdict."""
    out = console or Console()
    out.print(f"[bold]{escape(run.name)}[/]: {escape(run.scenario.about)}", highlight=False)
    figures = Table(box=None, show_header=False)
    for name in SHOWN:
        if run.figures.get(name) is not None:
            figures.add_row(name, number(run.figures[name]), FIGURES[name].unit)
    out.print(figures)
    checks = Table(box=None, show_header=False)
    for check in run.checks:
        word = "[green]holds[/]" if check.holds else "[bold red]does not hold[/]"
        checks.add_row(word, check.figure, number(check.value), f"{check.bound} {figure_of(check.figure).unit}")
    out.print(checks)
    for line in (*run.notes, *run.faults[:5]):
        out.print(escape(line), highlight=False)
    out.print(
        "[bold green]passed[/]" if run.passed else "[bold red]did not pass[/]",
        *(escape(str(path)) for path in written[:1]),
        highlight=False,
    )


def number(value: float | None) -> str:
    """A figure in as few digits as tell it."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"
