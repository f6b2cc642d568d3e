"""Log lines: one JSON object per line, with the request, tenant and trace that they belong to.

Inputs, keys and headers are never logged: a line holds a message, the fields that a call names, and nothing else. What
an exception says may quote a value that made it, so only the words of exceptions that are known not to are told.
Everything outside of ASCII is escaped: no value can end a line, colour a terminal or turn its text around.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from adapters.errors import AdapterError
from serving.errors import ServiceError
from serving.rotation import RotatingFile

KEEP = 3  # full log files beside the present one
_FIELDS = "chorus_fields"  # the attribute of a log record that holds them
_SECRET = ("key", "token", "secret", "authorization", "password", "input", "inputs", "text", "texts", "body", "headers")
_TAKEN = ("time", "level", "part", "message", "error", "traceback")
_TOLD = (AdapterError, ServiceError, OSError, RuntimeError, AssertionError, MemoryError)
_WITHHELD = "(what it says is withheld: it may quote an input)"
_scope: ContextVar[dict[str, str]] = ContextVar("chorus_log_scope", default={})  # noqa: B039 - never mutated
_notes: ContextVar[dict[str, object] | None] = ContextVar("chorus_log_notes", default=None)


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the log lines of this process to `stream` (stderr); called once, by the composition root or the CLI."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("chorus")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


def rotating(path: Path, max_bytes: int, keep: int = KEEP) -> TextIO:
    """A stream for `configure`: a file that starts anew at `max_bytes`, with `keep` full ones beside it."""
    return RotatingFile(path, max_bytes, keep)  # type: ignore[return-value]  # io.TextIOBase is one in all but name


def adopt(library: str, level: int = logging.WARNING) -> None:
    """Have a library's own warnings written as lines of ours, by `configure`'s handler."""
    logger = logging.getLogger(library)
    logger.handlers[:] = logging.getLogger("chorus").handlers
    logger.setLevel(level)
    logger.propagate = False


def log(part: str, message: str, *, level: int = logging.INFO, error: bool = False, **fields: object) -> None:
    """Write a line for a part of the service (`api`, `engine`, ...); `error` adds the exception being handled."""
    _refuse_secrets(fields)
    logging.getLogger(f"chorus.{part}").log(level, message, exc_info=error, extra={_FIELDS: fields})


@contextmanager
def request_scope(request_id: str, tenant: str = "", trace_id: str = "") -> Iterator[None]:
    """Within this context every line of the task carries the request id, and tenant and trace once they are known."""
    known = {"request_id": request_id, "tenant": tenant, "trace_id": trace_id}
    before = _scope.set({**_scope.get(), **{name: value for name, value in known.items() if value}})
    outer = _notes.get()
    empty = _notes.set({} if outer is None else outer)
    try:
        yield
    finally:
        _notes.reset(empty)
        _scope.reset(before)


def note(**fields: object) -> None:
    """Have every later line of the request tell these too, in whichever of its tasks they became known (digests)."""
    _refuse_secrets(fields)
    notes = _notes.get()
    if notes is not None:
        notes.update(fields)


def noted(name: str) -> object | None:
    """What was noted under a name in this request; None if nothing was."""
    return (_notes.get() or {}).get(name)


def request_id() -> str:
    """The id of the request that this task works for; "" outside of any."""
    return _scope.get().get("request_id", "")


class JsonFormatter(logging.Formatter):
    """A record as one JSON line: time, level, part, message, request, fields, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII; values that JSON lacks are written as text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("chorus."),
            "message": record.getMessage(),
            **_scope.get(),
            **(_notes.get() or {}),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["traceback"] = _trace(record.exc_info[1])
        return json.dumps(line, default=str)


def _refuse_secrets(fields: Mapping[str, object]) -> None:
    refused = sorted(name for name in fields if name.lower() in _SECRET)
    assert not refused, f"log fields {refused} may hold inputs or keys"
    taken = sorted(fields.keys() & set(_TAKEN))
    assert not taken, f"log fields {taken} have a meaning already"


def _trace(error: BaseException) -> str:
    """The frames of an exception and of what it came from, oldest first; its words only where they may be told."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nthen:\n".join(_frames(link) for link in reversed(chain))


def _frames(error: BaseException) -> str:
    told = str(error) if isinstance(error, _TOLD) else _WITHHELD
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    parts = ["".join(traceback.format_tb(error.__traceback__)) + f"{type(error).__qualname__}: {told}"]
    return "\nof it:\n".join((*parts, *(_trace(member) for member in members)))
