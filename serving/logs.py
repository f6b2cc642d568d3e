"""Log lines: one JSON object per line on stderr, with the request and tenant that they belong to.

Inputs, keys and headers are never logged: a line holds a message, the fields that a call names, and nothing else.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

_FIELDS = "chorus_fields"  # the attribute of a log record that holds them
_SECRET = ("key", "token", "secret", "authorization", "password", "input", "text")
_scope: ContextVar[dict[str, str]] = ContextVar("chorus_log_scope", default={})  # noqa: B039 - never mutated


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the log lines of this process to `stream` (stderr); called once, by the composition root or the CLI."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("chorus")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


def log(part: str, message: str, *, level: int = logging.INFO, error: bool = False, **fields: object) -> None:
    """Write a line for a part of the service (`api`, `engine`, ...); `error` adds the exception being handled."""
    refused = sorted(name for name in fields if name.lower() in _SECRET)
    assert not refused, f"log fields {refused} may hold inputs or keys"
    logging.getLogger(f"chorus.{part}").log(level, message, exc_info=error, extra={_FIELDS: fields})


@contextmanager
def request_scope(request_id: str, tenant: str = "") -> Iterator[None]:
    """Within this context every line of the task carries the request id, and the tenant once it is known."""
    known = {"request_id": request_id, "tenant": tenant} if tenant else {"request_id": request_id}
    before = _scope.set({**_scope.get(), **known})
    try:
        yield
    finally:
        _scope.reset(before)


class JsonFormatter(logging.Formatter):
    """A record as one JSON line: time, level, part, message, request, fields, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON; values that JSON lacks are written as text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("chorus."),
            "message": record.getMessage(),
            **_scope.get(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, default=str, ensure_ascii=False)
