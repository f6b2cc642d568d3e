"""The short way of sound predictions: past FastAPI's routing, which costs more than all else that a gateway does for them.

What is not sound in every respect, or asks for something unusual, goes the whole way: there is one place that words a
refusal. Whatever comes through here is answered there in the same words.
"""

from collections.abc import Awaitable, Callable, Mapping

from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.body import media_type, parse_json
from serving.api.schemas import PredictRequest
from serving.api.screening import screen
from serving.config import Limits
from serving.errors import ServiceError
from serving.tenancy.keys import Caller

SCOPE = "predict"
SHORT = 1 << 16  # bytes: reading a longer body twice would be felt where it is refused

Answer = Callable[[Request, PredictRequest, Caller], Awaitable[Response]]


class Shortcut:
    """ASGI middleware below all others: hands a sound body straight to `answer`, the function of `route`."""

    def __init__(self, app: ASGIApp, route: APIRoute, answer: Answer, limits: Limits) -> None:
        self._app = app
        self._route = route
        self._answer = answer
        self._limits = limits
        self._model = TypeAdapter(PredictRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the request go the whole way, with what was read of its body."""
        if not self._plain(scope):
            await self._app(scope, receive, send)
            return
        read = _Read(receive)
        body = self._sound(await read.whole())
        if body is None:
            await self._app(scope, read.again, send)
            return
        scope["route"] = self._route
        response = await self._answer(Request(scope, read.again), body, scope["state"]["caller"])
        await response(scope, receive, send)

    def _plain(self, scope: Scope) -> bool:
        """Whether it is a prediction that the caller may ask for, with a short body and nothing beside it."""
        if scope["type"] != "http" or scope["path"] != self._route.path or scope["method"] != "POST":
            return False
        if scope["query_string"] or scope.get("root_path") or SCOPE not in scope["state"]["caller"].scopes:
            return False
        headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))  # of several the first, as everywhere
        length = headers.get(b"content-length", b"")
        return (
            media_type(headers.get(b"content-type", b"").decode("latin-1")) == "application/json"
            and b"transfer-encoding" not in headers
            and length.isdigit()
            and int(length) <= SHORT
        )

    def _sound(self, raw: bytes | None) -> PredictRequest | None:
        """The request, if nothing is wrong with it."""
        try:
            value = None if raw is None else parse_json(raw)
            if not isinstance(value, dict):
                return None
            screen(value, self._limits)
            return self._model.validate_python(value)
        except (ServiceError, ValidationError):
            return None


class _Read:
    """A body that is read once here, and may be read again by others."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []

    async def whole(self) -> bytes | None:
        """All of it; None where the client went away before."""
        more = True
        while more:
            message = await self._receive()
            self._messages.append(message)
            if message["type"] != "http.request":
                return None
            more = message.get("more_body", False)
        return b"".join(message.get("body", b"") for message in self._messages)

    async def again(self) -> Message:
        """What was read, and then what else comes."""
        return self._messages.pop(0) if self._messages else await self._receive()
