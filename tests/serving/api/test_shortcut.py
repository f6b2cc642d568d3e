"""The short way answers as the whole way does, to the byte; and what is not sound takes the whole way."""

import json

import pytest
from starlette.testclient import TestClient

import serving.api.shortcut
from serving.api.app import build_app
from serving.api.shortcut import Shortcut
from tests.serving.samples import adapter_manifest, head_spec

JSON = {"content-type": "application/json", "x-request-id": "r"}
SOUND = {"inputs": ["i love it", {"text": "i", "text_pair": "you"}], "adapters": ["sentiment"]}


@pytest.fixture
def short(monkeypatch):
    """How many requests took the short way."""
    taken, real = [], Shortcut._sound

    def spy(self, raw):
        found = real(self, raw)
        if found is not None:
            taken.append(raw)
        return found

    monkeypatch.setattr(Shortcut, "_sound", spy)
    return taken


@pytest.fixture
def ways(fakes, publish, monkeypatch):
    """The same request on both ways."""
    publish("sentiment", promote=True)
    publish("tagger", adapter_manifest(head_spec(("O", "X"), "token")))
    here = TestClient(build_app(fakes.services), base_url="http://127.0.0.1:8000")

    def send(body, method="POST", path="/v1/predict", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answers = []
        for long in (False, True):
            with monkeypatch.context() as patched:
                if long:
                    patched.setattr(Shortcut, "_plain", lambda *_: False)
                answers.append(here.request(method, path, content=content, headers={**JSON, **headers}))
        return answers

    return send


def told(answer):
    """All of an answer but the times in it."""
    body = answer.json()
    if "timing_ms" in body:
        body["timing_ms"] = sorted(body["timing_ms"])
    headers = {name: value for name, value in answer.headers.items() if name not in ("server-timing", "content-length")}
    return answer.status_code, headers, body, list(body)


@pytest.mark.parametrize(
    "body",
    [
        SOUND,
        {**SOUND, "parameters": {"function_to_apply": "none", "top_k": None}, "timeout_ms": 900},
        {"inputs": "i", "adapters": "tagger"},
        {"inputs": "i", "task": "feature-extraction"},
    ],
)
def test_a_sound_request_is_answered_alike_on_both_ways(ways, short, fakes, body):
    first, second = ways(body)
    assert first.status_code == 200
    assert told(first) == told(second)
    assert len(short) == 1
    value = fakes.services.metrics.registry.get_sample_value
    labels = {"method": "POST", "route": "/v1/predict", "code": "200"}
    assert value("chorus_http_requests_total", labels) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"inputs"',
        b'{"inputs": "i", "inputs": "i"}',
        {"inputs": 1},
        {**SOUND, "inputs": ["i", {"text": 1}]},
        {**SOUND, "model": "x"},
        {**SOUND, "inputs": ["i"] * 257},
        {**SOUND, "adapters": "+".join(["sentiment"] * 40)},
        {**SOUND, "inputs": []},
        {**SOUND, "adapters": ["nope"]},
        {**SOUND, "parameters": {"aggregation_strategy": "simple"}},
    ],
)
def test_a_refusal_is_worded_alike_on_both_ways(ways, body):
    first, second = ways(body)
    assert first.status_code >= 400
    assert told(first) == told(second)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/predict?dry_run=true", {}),
        ("/v1/predict", {"content-type": "text/plain"}),
        ("/v1/predict", {"content-type": "application/json; charset=utf-8"}),
        ("/v1/predict", {"content-encoding": "gzip"}),
        ("/v1/predict/", {}),
        ("/v1/limits", {}),
    ],
)
def test_what_stands_beside_the_body_is_treated_alike(ways, path, headers):
    first, second = ways(SOUND, path=path, **headers)
    assert told(first) == told(second)


def test_another_method_is_told_what_the_path_answers(ways, short):
    first, second = ways(b"", method="PUT")
    assert told(first) == told(second)
    assert first.status_code == 405
    assert not short


def test_a_long_body_is_read_once_on_the_whole_way(ways, short, monkeypatch):
    monkeypatch.setattr(serving.api.shortcut, "SHORT", 10)
    first, _ = ways(SOUND)
    assert first.status_code == 200
    assert not short


def test_a_key_that_may_not_predict_is_refused_in_the_same_words(ways, short, fakes):
    key = fakes.keyring.add("default", "publish").secret
    first, second = ways(SOUND, authorization=f"Bearer {key}")
    assert told(first) == told(second)
    assert first.status_code == 403
    assert not short


def test_a_body_in_pieces_takes_the_whole_way(fakes, publish, short):
    publish("sentiment")
    client = TestClient(build_app(fakes.services), base_url="http://127.0.0.1:8000")
    raw = json.dumps(SOUND).encode()
    answer = client.post("/v1/predict", content=iter([raw[:9], raw[9:]]), headers=JSON)
    assert answer.status_code == 200
    assert not short
