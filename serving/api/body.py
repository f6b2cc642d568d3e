"""Request bodies, read strictly: one JSON value, nothing doubtful in it, and never more bytes than the cap.

Refused are: another media type, nesting deeper than 32, `NaN` and infinities, a member named twice, lone surrogates and
bytes that are not UTF-8. A router that takes JSON is made with `APIRouter(route_class=StrictRoute)`.
"""

import asyncio
import json
import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from serving.errors import BadRequest, UnsupportedMedia

MAX_DEPTH = 32
_LARGE = 1 << 20  # bytes
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class StrictRoute(APIRoute):
    """A route whose JSON body is parsed by `parse_json` before FastAPI sees it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a `StrictRequest` where the route takes a body."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strict(request: Request) -> Response:
            return await handle(await self.read(request))

        return strict

    async def read(self, request: Request) -> "StrictRequest":
        """The request with its body parsed; raises as `StrictRequest.read` does."""
        return await StrictRequest.read(request)


class StrictRequest(Request):
    """A request whose body has been read and parsed."""

    raw: bytes
    value: Any

    @classmethod
    async def read(cls, request: Request) -> "StrictRequest":
        """Read the whole body; raises `UnsupportedMedia` or `BadRequest`."""
        media = media_type(request.headers.get("content-type", ""))
        if media != "application/json":
            raise UnsupportedMedia(f"send application/json, not {media or 'a body without a content type'}")
        strict = cls(request.scope, request.receive)
        strict.raw = await request.body()
        if len(strict.raw) > _LARGE:
            strict.value = await asyncio.to_thread(parse_json, strict.raw)  # other requests go on meanwhile
        else:
            strict.value = parse_json(strict.raw)
        return strict

    async def body(self) -> bytes:
        """The bytes as sent."""
        return self.raw

    async def json(self) -> Any:
        """The parsed value."""
        return self.value


def media_type(content_type: str) -> str:
    """What a `Content-Type` names, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def parse_json(raw: bytes) -> Any:
    """One strict JSON value; raises `BadRequest` (code `malformed_json`) that says what is wrong."""
    try:
        value = json.loads(
            raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite_float
        )
    except RecursionError as error:
        raise _malformed(f"the body is nested deeper than {MAX_DEPTH}") from error
    except UnicodeDecodeError as error:
        raise _malformed(f"the body is not UTF-8 at byte {error.start}") from error
    except ValueError as error:
        raise _malformed(f"the body is not JSON: {error}") from error
    if _SURROGATE_ESCAPE.search(raw):
        _refuse_lone_surrogates(value)
    if _depth(value) > MAX_DEPTH:
        raise _malformed(f"the body is nested deeper than {MAX_DEPTH}")
    return value


def _malformed(detail: str) -> BadRequest:
    return BadRequest(detail, code="malformed_json")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice[:64]!r} is given twice")
    return members


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:64]} is out of range")
    return number


def _depth(value: Any) -> int:
    """How many containers lie in one another; stops counting above the limit."""
    depth, level = 0, [value]
    while depth <= MAX_DEPTH:
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            break
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _refuse_lone_surrogates(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
            raise _malformed("the body holds half of a surrogate pair")
