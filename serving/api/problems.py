"""Every refusal as one `application/problem+json` body that RFC 9457 clients and OpenAI clients both understand."""

import json
import logging
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapters.errors import AdapterError
from serving.errors import Fault, NotFound, ServiceError, Unprocessable, from_library
from serving.logs import log
from serving.metrics import GatewayMetrics

MEDIA_TYPE = "application/problem+json"
MOST_FAULTS = 100  # in one body
UNKNOWN_WAIT_S = 1.0  # where nobody can say when it will be better
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True)
class Problem:
    """What a refused client is told; `headers` go beside the body."""

    status: int
    code: str
    title: str
    detail: str
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None  # seconds, as exactly as they are known

    def response(self, request_id: str, path: str) -> Response:
        """The HTTP answer."""
        kind = _OPENAI_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        param = self.faults[0].pointer.strip("/").replace("/", ".") if self.faults else ""
        body = {
            "type": f"urn:chorus:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"{path}#{request_id}",
            "code": self.code,
            "request_id": request_id,
            "retry_after": self.retry_after,
            "errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in bounded(self.faults)],
            "error": {"message": self.detail, "type": kind, "param": param or None, "code": self.code},
        }
        return Response(json.dumps(body), self.status, dict(self.headers), MEDIA_TYPE)


class Problems:
    """ASGI middleware: whatever is raised below becomes a problem; what is not ours is logged and hidden."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app; answer in its place if it raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect as error:
            _let_go(error)
            log("api", "the client went away while it sent its body")
        except Exception as error:
            if started:  # too late for another answer: the server must cut the connection
                raise
            problem = problem_of(error)
            if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                log("api", "unexpected error", level=logging.ERROR, error=True)
            _let_go(error)
            caller = scope["state"].get("caller")
            self._metrics.refused(problem.code, caller.tenant if caller else "")
            await problem.response(scope["state"]["request_id"], scope["path"])(scope, receive, send)


def problem_of(error: Exception) -> Problem:
    """The problem of any exception; unknown ones are a 500 that tells nothing of the inside."""
    if isinstance(error, AdapterError):
        error = from_library(error)
    if isinstance(error, ServiceError):
        wait = _wait(error)
        headers = _headers(error.status, wait)
        return Problem(error.status, error.code, error.title, error.detail, error.faults, headers, wait)
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors(), error.body)
    if isinstance(error, HTTPException):
        return _routing(error)
    return Problem(500, ServiceError.code, ServiceError.title, "the service failed on this request; its log says why")


def _let_go(error: BaseException) -> None:
    """Drop the frames that an error and its causes hold.

    These hold the request, whose frames hold the error: a ring with the whole body in it, which only the collector would
    find, and that is seldom asked (`replicas.surroundings.settled`).
    """
    chain: list[BaseException | None] = [error]
    while chain:
        if (one := chain.pop()) is not None and one.__traceback__ is not None:
            traceback.clear_frames(one.__traceback__)
            one.__traceback__ = None
            chain += [one.__cause__, one.__context__]


async def raise_again(_request: Request, error: Exception) -> Response:
    """FastAPI's exception handler: hands its own errors on to `Problems`, the one place that answers."""
    raise error


def pointer_of(loc: Sequence[str | int], value: Any) -> str:
    """The JSON pointer of a pydantic location, whose union tags name no member of `value`."""
    parts: list[str] = []
    for depth, step in enumerate(loc):
        here = (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int))
        if here:
            value = value[step]
        if here or (depth == len(loc) - 1 and isinstance(value, dict)):  # the last step may be a missing member
            parts.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def bounded(faults: Sequence[Fault]) -> list[Fault]:
    """The first faults, and how many more there are: an answer is not to be larger than what it answers."""
    if len(faults) <= MOST_FAULTS:
        return list(faults)
    return [*faults[:MOST_FAULTS], Fault("", f"and {len(faults) - MOST_FAULTS} more")]


def _wait(error: ServiceError) -> float | None:
    """Seconds after which to try again; every refusal for want of room or readiness says some."""
    if error.retry_after is None and error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        return UNKNOWN_WAIT_S
    return error.retry_after


def _headers(status: int, wait: float | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if wait is not None:
        headers["retry-after"] = str(max(1, math.ceil(wait)))  # whole seconds: RFC 9110, 10.2.3
        headers["retry-after-ms"] = str(math.ceil(wait * 1000))
    return headers


def _invalid(errors: Sequence[Any], body: Any) -> Problem:
    faults = []
    for item in errors:
        where, *loc = item["loc"]
        if where == "body":
            faults.append(Fault(pointer_of(loc, body), item["msg"]))
        else:
            faults.append(Fault("", f"{where} parameter {'.'.join(map(str, loc))}: {item['msg']}"))
    detail = "; ".join(f"{fault.pointer}: {fault.detail}".removeprefix(": ") for fault in faults[:5])
    return Problem(422, "invalid_value", Unprocessable.title, detail, tuple(faults))


def _routing(error: HTTPException) -> Problem:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Problem(404, "route_not_found", NotFound.title, "no such path; GET /openapi.json lists them all")
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    detail = "this path does not answer this method" if error.status_code == 405 else str(error.detail)
    return Problem(error.status_code, code, phrase, detail, headers=dict(error.headers or {}))
