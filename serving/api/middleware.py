"""What every request passes on its way in: its id, its line in the log, the host it asked for, and the cap on its body.

Plain ASGI classes: none of them buffers a body, and none of them writes what a body holds.
"""

import re
import time
import uuid
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.services import Keyring
from serving.config import Limits
from serving.errors import Forbidden, TooLarge, UnsupportedMedia
from serving.logs import log, request_scope
from serving.metrics import GatewayMetrics

CLIENT_GONE = 499  # the status in logs and metrics of a request whose client left before the answer
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_TOKENIZERS = "/v1/token-embeddings"
_PREDICT = "/v1/predict"
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})  # probes are counted, but fill no log


class RequestId:
    """Every request has an id: the client's own if it is plain, else a new one; the answer carries it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set `scope["state"]["request_id"]` and the header `x-request-id` of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with request_scope(request_id):
            await self._app(scope, receive, stamped)


class AccessLog:
    """One log line and one count per request: method, route, status, milliseconds, tenant; never inputs or keys."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app and note how it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = CLIENT_GONE, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, watched)
            finally:
                seconds = time.perf_counter() - begun
                route = route_of(scope)
                caller = scope["state"].get("caller")
                tenant, method = caller.tenant if caller else "", method_of(scope)
                self._metrics.answered(method, route, status, seconds, tenant)
                if route not in _QUIET:
                    log("api", "request", method=method, route=route, status=status, ms=seconds * 1e3, tenant=tenant)


class LoopbackOnly:
    """Without keys only requests that name a loopback host are answered: no rebound name, no foreign web page."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse what came through a foreign `Host` or `Origin`; raises `Forbidden`."""
        if scope["type"] == "http" and self._keyring.keyless:
            headers = Headers(scope=scope)
            sources = [f"//{headers.get('host', '')}", *headers.getlist("origin")]
            if not all(_loopback(source) for source in sources):
                raise Forbidden("without keys only loopback hosts are answered: make a key", code="host_not_allowed")
        await self._app(scope, receive, send)


class BodyCap:
    """A body ends at its cap: `max_body_bytes` for JSON, else `max_package_bytes`; encoded bodies are refused.

    JSON that brings whole tokenizers may have `max_tokenizer_bytes`, and where the backbone reads `images`, predictions
    and the gates of promotes `max_image_body_bytes`; an image that is uploaded as it is, `max_image_bytes`.
    """

    def __init__(self, app: ASGIApp, limits: Limits, *, images: bool = False) -> None:
        self._app = app
        self._limits = limits
        self._images = images

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body as it is read; raises `TooLarge` or `UnsupportedMedia`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "content-encoding" in headers:
            raise UnsupportedMedia("send the body as it is, without a Content-Encoding")
        media = headers.get("content-type", "").partition(";")[0].strip().lower()
        cap = self._cap(scope["path"], media)
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > cap:
            raise _over(cap)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > cap:
                raise _over(cap)
            return message

        await self._app(scope, counted, send)

    def _cap(self, path: str, media: str) -> int:
        limits, prediction = self._limits, path == _PREDICT
        if media != "application/json":
            return limits.max_image_bytes if prediction else limits.max_package_bytes
        if path == _TOKENIZERS:
            return limits.max_tokenizer_bytes
        brings_images = self._images and (prediction or "/aliases/" in path)
        return limits.max_image_body_bytes if brings_images else limits.max_body_bytes


def route_of(scope: Scope) -> str:
    """The template of the route that matched (`/v1/adapters/{name}`), so that labels stay few."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


def method_of(scope: Scope) -> str:
    """The HTTP method, or OTHER for a word that a client made up."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"


def _loopback(source: str) -> bool:
    try:
        return _LOOPBACK.fullmatch(urlsplit(source).hostname or "") is not None
    except ValueError:  # an unclosed bracket
        return False


def _over(cap: int) -> TooLarge:
    return TooLarge(f"the body has more than {cap} bytes; GET /v1/limits tells the limits")
