"""How far a run is, on stderr: a bar for what it does now, a line for what it has done."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from loadtests.client.plan import FAILED, LATE, REFUSED, RIGHT, WRONG

_SHORT = {RIGHT: "right", WRONG: "[bold red]wrong[/]", REFUSED: "refused", LATE: "late", FAILED: "[red]failed[/]"}


class Show:
    """A live display; silent where `quiet`."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """What is done."""
        self._console.print(text, highlight=False)

    def begin(self, what: str, total: float) -> None:
        """What is done now, in so many steps (or seconds)."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=round(total), told="")

    def at(self, done: float, total: float | None = None) -> None:
        """How far it is."""
        if self._task is not None:
            self._progress.update(self._task, completed=round(done), total=None if total is None else round(total))

    def verdicts(self, counts: Counter[str]) -> None:
        """What came of the requests so far."""
        if self._task is not None:
            told = ", ".join(f"{counts[verdict]} {word}" for verdict, word in _SHORT.items() if counts[verdict])
            self._progress.update(self._task, told=told)


class Clock:
    """Moves the bar of a take along with time."""

    def __init__(self, show: Show, what: str, seconds: float) -> None:
        self._show = show
        self._start: float | None = None
        self._seconds = seconds
        show.begin(what, seconds)

    def begun(self, start: float, _pids: Sequence[int]) -> None:
        """The load begins (monotonic seconds)."""
        self._start = start

    def heard(self, counts: Counter[str]) -> None:
        """The verdicts so far."""
        if self._start is not None:
            self._show.at(min(self._seconds, max(0.0, time.monotonic() - self._start)))
        self._show.verdicts(counts)
