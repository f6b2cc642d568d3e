"""What the loop tells the log of rows that fail: little, however many a caller sends."""

import logging
from collections.abc import Callable, Sequence

from adapters.errors import AdapterError
from serving.logs import log
from serving.request import Refusal

QUIET_SECONDS = 10.0  # between two lines of one kind


class Complaints:
    """One line of each kind per `QUIET_SECONDS`, with the number of rows and steps since the last. One thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._rows: dict[str, int] = {}

    def rows_refused(self, refusals: Sequence[Refusal]) -> None:
        """A step answered these rows with a refusal."""
        if refusals:
            self._say("a step refused rows", len(refusals), code=refusals[0].code, detail=refusals[0].detail)

    def step_failed(self, error: Exception, rows: int) -> None:
        """A step of several rows raised, in an `except` clause; only a bug is worth a traceback."""
        if isinstance(error, AdapterError):
            self._say("a row that can not run stopped a step: trying halves", rows, detail=str(error))
        else:
            self._say("a step failed: trying halves", rows, error=True)

    def _say(self, message: str, rows: int, *, error: bool = False, **fields: object) -> None:
        self._steps[message] = self._steps.get(message, 0) + 1
        self._rows[message] = self._rows.get(message, 0) + rows
        now = self._clock()
        if now - self._last.get(message, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._last[message] = now
        counts = {"steps": self._steps.pop(message), "rows": self._rows.pop(message)}
        log("scheduler", message, level=logging.WARNING, error=error, **counts, **fields)
