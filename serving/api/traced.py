"""The request's place in a trace: W3C `traceparent` in and out, its span, and the trace id of its log lines."""

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.middleware import CLIENT_GONE, method_of, route_of
from serving.logs import noted, request_scope
from serving.request import Reply, Result
from serving.tracing import Request, Tracing, steps, trace_of

UNTRACED = frozenset({"/livez", "/readyz", "/metrics"})  # probes
FAILED = 500


class Traced:
    """ASGI middleware below `RequestId`: log lines carry the client's trace id even where nothing is traced here."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app within the request's span."""
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        status = CLIENT_GONE

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if request is not None:
                    MutableHeaders(scope=message).update(request.headers)
            await send(message)

        request_id = scope["state"]["request_id"]
        with self._tracing.request(headers) as request:
            trace_id = trace_of(headers.get("traceparent", "")) if request is None else request.trace_id
            with request_scope(request_id, trace_id=trace_id):
                try:
                    await self._app(scope, receive, stamped)
                finally:
                    if request is not None:
                        _note(request, scope, status)


def engine_steps(replies: Sequence[Reply]) -> None:
    """Spans of queue, load and forward, for the slowest row of each engine that answered some."""
    slowest: dict[str, Result] = {}
    for reply in replies:
        if isinstance(reply, Result) and _spent(reply) > _spent(slowest.get(reply.replica)):
            slowest[reply.replica] = reply
    for replica, result in slowest.items():
        told = result.timing
        spent = {"queue": told.queue, "load": told.load, "forward": told.forward}
        steps(spent, chorus__replica=replica, chorus__batch_rows=result.batch_rows)


def _spent(result: Result | None) -> float:
    return -1.0 if result is None else result.timing.queue + result.timing.load + result.timing.forward


def _note(request: Request, scope: Scope, status: int) -> None:
    """What is known of the request once it is over."""
    method, route, state = method_of(scope), route_of(scope), scope["state"]
    caller, digests = state.get("caller"), noted("digests")
    request.note(
        f"{method} {route}",
        failed=status >= FAILED,
        http__request__method=method,
        http__route=route,
        http__response__status_code=status,
        chorus__request_id=state["request_id"],
        chorus__tenant=caller.tenant if caller else "",
        chorus__digests=digests if isinstance(digests, tuple) else (),
    )
