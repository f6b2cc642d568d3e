"""An OpenTelemetry collector in this process: takes spans over HTTP, and keeps them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Kept:
    """One span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begun: int  # nanoseconds
    ended: int
    failed: bool
    events: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """What arrived; `url` is where, `status` what the sender is told."""

    url: str
    status: int = 200
    bodies: list[tuple[str, bytes]] = field(default_factory=list)  # path and protobuf

    @property
    def spans(self) -> dict[str, Kept]:
        """By name; two of one name are an error of the test."""
        found = [kept for _, body in self.bodies for kept in _decoded(body)]
        by_name = {kept.name: kept for kept in found}
        assert len(by_name) == len(found), [kept.name for kept in found]
        return by_name


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(collector.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _decoded(body: bytes) -> Iterator[Kept]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        told = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            yield Kept(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                span.status.code == 2,
                len(span.events),
                {pair.key: _value(pair.value) for pair in span.attributes},
                told,
            )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
