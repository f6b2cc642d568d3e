"""A request over HTTP as its trace, and as its log lines: what they tell, and what they never do."""

import io
import json
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.api.traced import engine_steps
from serving.errors import Overloaded
from serving.logs import configure
from serving.metrics import render
from serving.request import Refusal, Result, Timing
from serving.tracing import Tracing
from tests.serving.collector import collecting
from tests.serving.samples import adapter_manifest, head_spec, package_bytes

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
CANARY = "canary\r\n\x1b[31m\x1b]0;pwned\x07"


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


@pytest.fixture
def traced(fakes, tracing):
    return TestClient(build_app(replace(fakes.services, tracing=tracing)), base_url="http://127.0.0.1:8000")


@pytest.fixture
def written():
    """Everything that was logged, as text."""
    stream = io.StringIO()
    configure(stream=stream)
    yield stream.getvalue


def access_lines(text: str) -> list[dict]:
    return [line for line in map(json.loads, text.splitlines()) if line["message"] == "request"]


def ask(client, **options):
    return client.post("/v1/predict", json={"inputs": "i love it", "adapters": "sentiment"}, **options)


def test_a_prediction_is_one_trace_from_the_client_to_the_engine(traced, tracing, collector, publish):
    digest = publish("sentiment").version.ref.digest
    response = ask(traced, headers={"traceparent": PARENT, "x-request-id": "id-7"})
    tracing.close()
    spans = collector.spans
    assert set(spans) == {"POST /v1/predict", "tokenize", "dispatch", "queue", "load", "forward"}
    root = spans["POST /v1/predict"]
    assert (root.trace_id, root.parent_id, root.failed) == (TRACE, SPAN, False)
    assert root.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/predict",
        "http.response.status_code": 200,
        "chorus.request_id": "id-7",
        "chorus.tenant": "default",
        "chorus.digests": [digest],
    }
    assert response.headers["traceparent"] == f"00-{TRACE}-{root.span_id}-01"
    assert spans["dispatch"].attributes == {"chorus.rows": 1}
    told = spans["forward"]
    assert told.parent_id == spans["dispatch"].span_id
    assert told.attributes == {"chorus.replica": "engine-1", "chorus.batch_rows": 1}
    took = {name: (spans[name].ended - spans[name].begun) / 1e6 for name in ("queue", "load", "forward")}
    assert took == {"queue": 1.5, "load": 0.5, "forward": 2.0}


@pytest.mark.parametrize(("error", "status", "failed"), [(Overloaded("full"), 429, False), (KeyError("x"), 500, True)])
def test_a_refusal_is_traced_and_only_our_own_fault_is_a_failure(
    traced, tracing, collector, publish, fakes, error, status, failed
):
    publish("sentiment")
    fakes.submit.error = error
    assert ask(traced).status_code == status
    tracing.close()
    root = collector.spans["POST /v1/predict"]
    assert (root.attributes["http.response.status_code"], root.failed) == (status, failed)
    assert collector.spans["dispatch"].attributes["error.type"] == type(error).__name__


def test_probes_are_not_traced_and_unknown_routes_have_one_name(traced, tracing, collector):
    for path in ("/livez", "/readyz", "/metrics", "/nope/canary"):
        traced.get(path)
    tracing.close()
    assert list(collector.spans) == ["GET unmatched"]


def test_without_tracing_the_lines_carry_the_clients_trace_all_the_same(client, publish, written):
    publish("sentiment")
    response = ask(client, headers={"traceparent": PARENT})
    ask(client, headers={"traceparent": "canary"})
    assert "traceparent" not in response.headers
    assert [line.get("trace_id") for line in access_lines(written())] == [TRACE, None]


def test_the_access_line_names_what_really_ran_also_when_it_failed(client, publish, written, fakes):
    digest = publish("sentiment").version.ref.digest
    ask(client)
    fakes.submit.error = Overloaded("full")
    ask(client)
    client.post("/v1/predict", json={"inputs": "i", "adapters": "nope"})
    told = [(line["status"], line.get("digests")) for line in access_lines(written())]
    assert told == [(200, [digest]), (429, [digest]), (404, None)]


def test_the_access_line_of_a_publish_names_what_was_published(client, written):
    package = package_bytes(adapter_manifest(head_spec()))
    headers = {"content-type": "application/octet-stream"}
    published = client.put("/v1/adapters/sentiment", content=package, headers=headers)
    (line,) = access_lines(written())
    assert line["digests"] == [published.json()["digest"]]


def test_an_engine_is_told_by_its_slowest_row(tracing, collector):
    def row(ticket, replica, forward):
        return Result(ticket, None, Timing(1.0, 0.0, forward), {}, replica, 3)

    with tracing.request({}):
        engine_steps([row("a", "e1", 2.0), row("b", "e1", 8.0), row("c", "e1", 4.0), Refusal("d", "x", "y", "e2")])
    tracing.close()
    assert collector.spans["forward"].ended - collector.spans["forward"].begun == 8_000_000


def test_no_field_of_a_request_brings_a_key_or_a_text_into_a_log_line_a_metric_or_a_trace(
    fakes, traced, tracing, collector, publish, written
):
    publish("sentiment", tenant="acme")
    secret = fakes.keyring.add("acme", "predict", "publish", "operate").secret
    auth = {"authorization": f"Bearer {secret}"}
    good = {"inputs": "i love it", "adapters": "sentiment"}
    names = ("inputs", "adapters", "embedding", "head", "task", "parameters", "timeout_ms", CANARY)
    bodies = [
        {**good, name: value} for name in names for value in (CANARY, {CANARY: CANARY}, [CANARY, {"text": CANARY}])
    ]
    for body in bodies:
        traced.post("/v1/predict", json=body, headers=auth)
    fakes.submit.error = ValueError(CANARY)
    traced.post("/v1/predict", json=good, headers=auth)
    header = "canary"  # a header can not carry the rest
    for name in ("x-request-id", "traceparent", "tracestate", "content-type", "user-agent", "if-match", "cookie"):
        traced.post("/v1/predict", content=b"{canary", headers={**auth, name: f"{header} {secret}"})
    for key in (CANARY.encode().hex(), f"{secret}canary", "canary"):
        traced.post("/v1/predict", json=good, headers={"authorization": f"Bearer {key}"})
    for path in ("/v1/adapters/canary", f"/v1/adapters/{secret}", "/canary%0d%0a%1b[31m?canary=canary", "/%0acanary"):
        for method in ("GET", "PUT", "DELETE", "CANARY"):
            traced.request(method, path, headers=auth)
    tracing.close()
    text = written()
    assert len(access_lines(text)) > 40
    assert all(line.isprintable() and line.isascii() for line in text.splitlines())
    everything = text + render(fakes.services.metrics.registry) + repr([body for _, body in collector.bodies])
    for hidden in ("canary", "CANARY", "pwned", secret, CANARY.encode().hex()):
        assert hidden not in everything, everything[everything.index(hidden) - 300 :][:600]
