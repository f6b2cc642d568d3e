"""Spans that a collector receives, and what costs nothing when there is none."""

import asyncio
import io
import json
import logging
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from serving.errors import BadRequest
from serving.logs import configure
from serving.tracing import MISSING, Tracing, current, span, steps, trace_of
from tests.serving.collector import collecting

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
OFF = """
import sys
from serving.tracing import Tracing, current, span, steps
assert current() == {}
tracing = Tracing.to("", "gateway-1")
with tracing.request({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}) as request:
    assert request is None
    with span("tokenize", rows=1):
        steps({"forward": 1.0})
tracing.close()
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


@pytest.fixture
def collector(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with collecting() as found:
        yield found


@pytest.fixture
def tracing(collector):
    made = Tracing.to(collector.url, "gateway-1")
    yield made
    made.close()
    logging.getLogger("opentelemetry").handlers.clear()


def test_off_nothing_is_imported_and_nothing_happens():
    done = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_request_and_its_parts_arrive_as_one_trace(tracing, collector):
    with tracing.request({}) as request:
        with span("tokenize", rows=2):
            pass
        with span("dispatch"):
            steps({"queue": 3.0, "load": 0.0, "forward": 5.0}, chorus__replica="engine-1")
        request.note("POST /v1/predict", failed=False, chorus__tenant="acme", chorus__digests=("sha256:1", "sha256:2"))
    tracing.close()
    spans = collector.spans
    assert {path for path, _ in collector.bodies} == {"/v1/traces"}
    root = spans["POST /v1/predict"]
    assert {kept.trace_id for kept in spans.values()} == {root.trace_id} == {request.trace_id}
    assert root.parent_id == ""
    assert root.attributes == {"chorus.tenant": "acme", "chorus.digests": ["sha256:1", "sha256:2"]}
    assert spans["tokenize"].attributes == {"rows": 2}
    assert spans["tokenize"].parent_id == spans["dispatch"].parent_id == root.span_id
    for name in ("queue", "load", "forward"):
        assert spans[name].parent_id == spans["dispatch"].span_id
        assert spans[name].attributes == {"chorus.replica": "engine-1"}
    assert root.resource["service.name"] == "chorus"
    assert root.resource["service.instance.id"] == "gateway-1"


def test_the_callers_own_span_is_told_to_whom_it_calls():
    assert current() == {}
    with TracerProvider().get_tracer("shop").start_as_current_span("buy") as live:
        found = live.get_span_context()
        parent = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
        assert current() == {"traceparent": parent}
    assert current() == {}


def test_steps_follow_one_another_and_end_now(tracing, collector):
    with tracing.request({}):
        steps({"queue": 3.0, "load": 0.0, "forward": 5.0})
    tracing.close()
    queue, load, forward, request = (collector.spans[name] for name in ("queue", "load", "forward", "request"))
    assert (queue.ended - queue.begun, load.ended - load.begun, forward.ended - forward.begun) == (
        3_000_000,
        0,
        5_000_000,
    )
    assert queue.ended == load.begun == load.ended == forward.begun
    assert forward.ended <= request.ended


def test_the_clients_trace_is_continued_and_it_is_led_to_the_span(tracing, collector):
    with tracing.request({"traceparent": PARENT, "tracestate": "shop=42"}) as request:
        pass
    tracing.close()
    kept = collector.spans["request"]
    assert (kept.trace_id, kept.parent_id) == (TRACE, SPAN)
    assert request.headers == {"traceparent": f"00-{TRACE}-{kept.span_id}-01", "tracestate": "shop=42"}


def test_a_trace_that_the_client_does_not_sample_is_not_sent(tracing, collector):
    with tracing.request({"traceparent": f"00-{TRACE}-{SPAN}-00"}) as request:
        assert request.trace_id == TRACE
        with span("tokenize"):
            pass
    tracing.close()
    assert collector.bodies == []


def test_an_exception_is_told_by_its_type_and_never_by_its_words(tracing, collector):
    with pytest.raises(ValueError, match="canary"), tracing.request({}), span("tokenize"):
        raise ValueError("canary")
    tracing.close()
    for kept in collector.spans.values():
        assert kept.failed
        assert kept.events == 0
        assert kept.attributes == {"error.type": "ValueError"}
    assert all(b"canary" not in body for _, body in collector.bodies)


def test_requests_that_run_at_once_do_not_mix(tracing, collector):
    async def one(name):
        with tracing.request({}) as request:
            await asyncio.sleep(0)
            with span(f"part of {name}"):
                await asyncio.sleep(0)
            request.note(name, failed=False)

    async def both():
        await asyncio.gather(one("a"), one("b"))

    asyncio.run(both())
    tracing.close()
    spans = collector.spans
    assert spans["a"].trace_id != spans["b"].trace_id
    for name in ("a", "b"):
        assert spans[f"part of {name}"].parent_id == spans[name].span_id


def test_after_a_request_nothing_is_traced(tracing, collector):
    with tracing.request({}):
        pass
    with span("late"):
        steps({"queue": 1.0})
    tracing.close()
    assert list(collector.spans) == ["request"]


def test_what_was_traced_so_far_is_sent_when_it_is_asked_for_and_what_follows_later(tracing, collector):
    with tracing.request({}) as request:
        request.note("first", failed=False)
    tracing.flush(10.0)
    assert list(collector.spans) == ["first"]
    with tracing.request({}) as request:
        request.note("second", failed=False)
    tracing.close()
    assert list(collector.spans) == ["first", "second"]
    Tracing().flush(10.0)


def test_a_request_that_failed_is_marked(tracing, collector):
    with tracing.request({}) as request:
        request.note("GET /x", failed=True)
    tracing.close()
    assert collector.spans["GET /x"].failed


def test_a_collector_that_refuses_costs_a_log_line_of_ours_and_no_request(collector):
    stream = io.StringIO()
    configure(stream=stream)
    collector.status = 400
    tracing = Tracing.to(collector.url, "gateway-1")
    with tracing.request({}):
        pass
    tracing.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines
    assert all(line["part"].startswith("opentelemetry") and line["level"] in ("warning", "error") for line in lines)
    for name in ("chorus", "opentelemetry"):
        logging.getLogger(name).handlers.clear()


@pytest.mark.parametrize(
    ("endpoint", "path"), [("", "/v1/traces"), ("/", "/v1/traces"), ("/custom/v1/traces", "/custom/v1/traces")]
)
def test_an_endpoint_without_a_path_gets_the_usual_one(collector, endpoint, path):
    tracing = Tracing.to(collector.url + endpoint, "gateway-1")
    with tracing.request({}):
        pass
    tracing.close()
    assert [sent for sent, _ in collector.bodies] == [path]


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "http://h:x", "grpc://h:4317"])
def test_a_bad_endpoint_is_refused_with_what_a_good_one_is(endpoint):
    with pytest.raises(BadRequest, match=r"is not http\(s\)://HOST") as caught:
        Tracing.to(endpoint, "gateway-1")
    assert caught.value.code == "bad_trace_endpoint"


def test_without_the_extra_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BadRequest) as caught:
        Tracing.to("http://127.0.0.1:4318", "gateway-1")
    assert caught.value.detail == MISSING
    assert "pip install 'chorus[tracing]'" in MISSING


@pytest.mark.parametrize(
    ("header", "trace_id"),
    [
        (PARENT, TRACE),
        (f"cc-{TRACE}-{SPAN}-01-what-follows", TRACE),
        (f"00-{TRACE}-{SPAN}-01-what-follows", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"{PARENT}\n", ""),
        ("", ""),
        ("canary", ""),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(header, trace_id):
    assert trace_of(header) == trace_id
