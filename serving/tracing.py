"""Where the time of a request went, as OpenTelemetry spans sent over OTLP/HTTP; off unless an endpoint is set.

    request -> tokenize, dispatch -> queue, load, forward      (the last three from what the engine says of the row)

Off, nothing of OpenTelemetry is imported, and a span costs one look into a context variable. On, spans leave from a
thread of their own; a collector that is away costs a log line. Spans hold what log lines hold: never inputs or keys.
"""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from serving.errors import BadRequest
from serving.logs import adopt

if TYPE_CHECKING:  # these come with the extra, and are imported where an endpoint is set
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Value = str | int | float | bool | tuple[str, ...]

PATH = "/v1/traces"  # of a collector, where the endpoint names none
MISSING = "traces were asked for, and the extra is not installed: pip install 'chorus[tracing]'"
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_HEADERS = ("traceparent", "tracestate")

_tracer: ContextVar["Tracer | None"] = ContextVar("chorus_tracer", default=None)


@dataclass(frozen=True)
class Request:
    """A request that is traced: `note` what is learned of it; `headers` lead the client to its span."""

    trace_id: str
    headers: Mapping[str, str]
    span: "Span"

    def note(self, name: str, *, failed: bool, **attributes: Value) -> None:
        """Give the span its name, outcome and attributes; two underscores in the name of an attribute are a dot."""
        self.span.update_name(name)
        self.span.set_attributes(_dotted(attributes))
        if failed:
            self.span.set_status(import_module("opentelemetry.trace").StatusCode.ERROR)


@dataclass(frozen=True)
class Tracing:
    """The spans of one process; `Tracing()` is off."""

    provider: "TracerProvider | None" = None

    @classmethod
    def to(cls, endpoint: str, replica: str) -> "Tracing":
        """Send spans to a collector; an empty endpoint is off. Raises `BadRequest` for a bad one, or without the extra."""
        if not endpoint:
            return cls()
        url = traces_url(endpoint)
        try:
            sdk, export = import_module("opentelemetry.sdk.trace"), import_module("opentelemetry.sdk.trace.export")
            exporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter
            resources = import_module("opentelemetry.sdk.resources")
        except ModuleNotFoundError as error:
            raise BadRequest(MISSING, code="no_tracing") from error
        adopt("opentelemetry")
        resource = resources.Resource.create({"service.name": "chorus", "service.instance.id": replica})
        provider = sdk.TracerProvider(resource=resource)
        provider.add_span_processor(export.BatchSpanProcessor(exporter(endpoint=url)))
        return cls(provider)

    @contextmanager
    def request(self, carrier: Mapping[str, str]) -> Iterator[Request | None]:
        """The span of a request, below the one that its W3C headers name; None where tracing is off."""
        if self.provider is None:
            yield None
            return
        api = import_module("opentelemetry.trace")
        w3c = import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()
        parent = w3c.extract({name: carrier[name] for name in _HEADERS if name in carrier})
        tracer = self.provider.get_tracer("chorus")
        with _spanning(tracer, "request", {}, context=parent, kind=api.SpanKind.SERVER) as span:
            headers: dict[str, str] = {}
            w3c.inject(headers)
            before = _tracer.set(tracer)
            try:
                yield Request(f"{span.get_span_context().trace_id:032x}", headers, span)
            finally:
                _tracer.reset(before)

    def flush(self, timeout_s: float) -> None:
        """Send what is left so far, and wait for it so long at most."""
        if self.provider is not None:
            self.provider.force_flush(round(timeout_s * 1000))

    def close(self) -> None:
        """Send what is left, and stop."""
        if self.provider is not None:
            self.provider.shutdown()


def span(name: str, **attributes: Value) -> AbstractContextManager[object]:
    """A part of the request that is being traced; nothing where none is."""
    tracer = _tracer.get()
    return nullcontext() if tracer is None else _spanning(tracer, name, attributes)


def steps(milliseconds: Mapping[str, float], **attributes: Value) -> None:
    """Spans of what happened elsewhere, one after the other and the last one until now, from how long each took."""
    tracer = _tracer.get()
    if tracer is None:
        return
    begun = time.time_ns() - round(sum(milliseconds.values()) * 1e6)
    for name, spent in milliseconds.items():
        ended = begun + round(spent * 1e6)
        tracer.start_span(name, attributes=_dotted(attributes), start_time=begun).end(ended)
        begun = ended


def current() -> dict[str, str]:
    """The W3C headers of the caller's own OpenTelemetry span, which its calls belong to; empty without one.

    Nothing is imported where there can be none: who has a span has imported OpenTelemetry.
    """
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator().inject(headers)
    return headers


def trace_of(traceparent: str) -> str:
    """The trace id of a W3C `traceparent`; "" where it is none."""
    found = _PARENT.fullmatch(traceparent)
    if found is None or (found[1] == "00" and found[5] is not None):
        return ""
    return found[2]


@contextmanager
def _spanning(tracer: "Tracer", name: str, attributes: Mapping[str, Value], **options: Any) -> Iterator["Span"]:
    """A span that tells of an exception its type alone: its words may quote an input."""
    quiet: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
    with tracer.start_as_current_span(name, attributes=_dotted(attributes), **quiet, **options) as live:
        try:
            yield live
        except BaseException as error:
            live.set_attribute("error.type", type(error).__name__)
            live.set_status(import_module("opentelemetry.trace").StatusCode.ERROR)
            raise


def _dotted(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


def traces_url(endpoint: str) -> str:
    """Where spans are sent: an endpoint without a path gets the one of OTLP. Raises `BadRequest` for what is no URL."""
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number
        sound = False
    if not sound:
        raise BadRequest(f"trace_endpoint {endpoint!r} is not http(s)://HOST[:PORT][/PATH]", code="bad_trace_endpoint")
    return endpoint if parts.path.strip("/") else parts._replace(path=PATH).geturl()
