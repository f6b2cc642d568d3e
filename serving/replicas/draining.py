"""A gateway on its way out: what runs is finished, what comes is told to ask again."""

import asyncio
import contextlib
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.api.problems import problem_of
from serving.errors import NotReady
from serving.logs import log

RETRY_AFTER_S = 5.0  # a service that is started again takes about so long
_OPEN = frozenset({"/livez", "/metrics"})  # how it gets on may be asked to the end


class Draining:
    """ASGI around the whole application: counts what runs, and refuses new requests once `drain` was called."""

    def __init__(self, app: ASGIApp, request_id: Callable[[], str]) -> None:
        self._app = app
        self._request_id = request_id  # a new one, for what is refused here
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or answer 503 with `Retry-After`."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        if self._leaving:
            await self._refuse(scope, receive, send)
            return
        self._running += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def drain(self, seconds: float) -> int:
        """Refuse new requests from now on; how many still run when all are done, or the time is over."""
        self._leaving = True
        log("gateway", "draining", running=self._running)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return self._running

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = NotReady("the service is shutting down; ask again", code="draining", retry_after=RETRY_AFTER_S)
        request_id = self._request_id()
        response = problem_of(error).response(request_id, scope["path"])
        response.headers["x-request-id"] = request_id
        response.headers["connection"] = "close"
        await response(scope, receive, send)
