"""What no path and no query may hold: control characters, which are in no name, and a NUL that PostgreSQL can not store."""

import re
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Fault, Unprocessable

_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_IN_FIELDS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # a field may be a text, with tabs and ends of lines


class Characters:
    """ASGI middleware: such a path leads nowhere (404), and such a query is refused with the fields that hold one (422).

    It stands before all routes, so that what they hand to SQL needs no look of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a clean path and query through; raises `HTTPException` (404) or `Unprocessable`."""
        if scope["type"] == "http":
            if _IN_NAMES.search(scope["path"]):
                raise HTTPException(404)
            if scope["query_string"]:
                _refuse_unclean(scope["query_string"])
        await self._app(scope, receive, send)


def _refuse_unclean(query: bytes) -> None:
    fields = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    unclean = [name for name, value in fields if _IN_FIELDS.search(name) or _IN_FIELDS.search(value)]
    if unclean:
        told = [f"query parameter {name!r}: leave out its control characters" for name in dict.fromkeys(unclean)]
        faults = tuple(Fault("", detail) for detail in told)
        raise Unprocessable("; ".join(told[:5]), code="invalid_value", faults=faults)
