"""One HTTP call to the service: sent again where that is safe, its refusal raised as the error that the server raised.

A call is sent again on 429, 502, 503 and a lost connection, if it may be sent twice, and waits as long as `Retry-After`
says; the last refusal is raised. Every call belongs to the caller's OpenTelemetry span, where it has one.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from serving.errors import REFUSALS, EngineFailed, Fault, NotReady, ServiceError
from serving.tracing import current

_CHUNK = 1 << 20
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_BY_STATUS = {cls.status: cls for cls in REFUSALS.values() if cls.status != 500}
_AGAIN = frozenset({429, 502, 503})
_LOST = (httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)


class Calls:
    """One service and one key. `timeout_s` bounds each attempt, `longest_wait_s` each pause between two attempts."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout_s: float,
        attempts: int = 3,
        longest_wait_s: float = 10.0,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._attempts = attempts
        self._longest_wait_s = longest_wait_s
        self._sleep = sleep
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout_s, connect=5.0),
            transport=transport,
            trust_env=urlsplit(self.url).hostname not in _LOOPBACK,  # a proxy can not reach this machine's loopback
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
    ) -> Any:
        """One call with a JSON body and a JSON answer; None for an empty answer."""
        response = self.send(method, path, json=body, params=params, headers=headers, idempotent=idempotent)
        return response.json() if response.content else None

    def send(
        self,
        method: str,
        path: str,
        *,
        idempotent: bool | None = None,
        content: Callable[[], Iterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx2.Response:
        """Send one call, again where that is safe and promises something; raises the server's refusal."""
        traced = _traced(headers or {})
        safe = method in {"GET", "PUT", "DELETE"} if idempotent is None else idempotent
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                body = None if content is None else content()
                response = self._http.request(method, path, content=body, headers=traced, **options)
            except httpx2.ConnectError as error:
                raise _unreachable(self.url, error) from error
            except httpx2.TransportError as error:
                if last or not safe or not isinstance(error, _LOST):
                    raise _unreachable(self.url, error) from error
                self._sleep(self._pause(attempt, None))
                continue
            if response.status_code < 400:
                return response
            refusal = refusal_of(response)
            wait = self._pause(attempt, refusal.retry_after)
            if last or not safe or response.status_code not in _AGAIN or wait > self._longest_wait_s:
                raise refusal
            self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def download(self, path: str) -> Iterator[Iterator[bytes]]:
        """The answer's body as it arrives."""
        try:
            with self._http.stream("GET", path, headers=_traced({})) as response:
                if response.status_code >= 400:
                    response.read()
                    raise refusal_of(response)
                yield response.iter_bytes(_CHUNK)
        except httpx2.TransportError as error:
            raise _unreachable(self.url, error) from error

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        return 0.1 * 2.0**attempt if retry_after is None else retry_after


def refusal_of(response: httpx2.Response) -> ServiceError:
    """The refusal that an answer carries: problem+json, or what a proxy in between said."""
    status, problem = response.status_code, _problem(response)
    code = problem.get("code")
    if status == 500:
        kind = EngineFailed if code == EngineFailed.code else ServiceError
    else:
        kind = NotReady if status == 502 else _BY_STATUS.get(status, ServiceError)
    refusal = kind(
        str(problem.get("detail") or f"HTTP {status} {response.reason_phrase}"),
        code=code if isinstance(code, str) else None,
        faults=_faults(problem.get("errors")),
        retry_after=_seconds(response.headers),
    )
    if request_id := problem.get("request_id"):
        refusal.add_note(f"request {request_id}")
    return refusal


def _traced(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a call, and those of the trace that it belongs to: the one that they name, or the current one."""
    return dict(headers) if "traceparent" in headers else {**current(), **headers}


def _problem(response: httpx2.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _faults(errors: object) -> tuple[Fault, ...]:
    held = [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return tuple(Fault(str(error.get("pointer", "")), str(error.get("detail", ""))) for error in held)


def _seconds(headers: httpx2.Headers) -> float | None:
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * scale
        except (KeyError, ValueError):
            continue  # absent, or a date
    return None


def _unreachable(url: str, error: httpx2.TransportError) -> NotReady:
    return NotReady(f"{url} does not answer: {error or type(error).__name__}", code="unreachable")
