import json

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.config import Limits
from serving.logs import JsonFormatter
from serving.metrics import render
from tests.serving.fakes import make_fakes


def test_an_id_is_made_and_echoed(client):
    made = client.get("/livez").headers["x-request-id"]
    assert made.startswith("req_")
    assert client.get("/livez").headers["x-request-id"] != made
    assert client.get("/livez", headers={"x-request-id": "abc-1.2:3"}).headers["x-request-id"] == "abc-1.2:3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "\x1b[31m"])
def test_an_id_that_could_break_a_log_is_replaced(client, given):
    assert client.get("/livez", headers={"x-request-id": given}).headers["x-request-id"].startswith("req_")


def test_a_refusal_carries_the_same_id_in_header_and_body(client):
    response = client.get("/nope", headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "mine"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "127.8.9.1", "LOCALHOST:1"])
def test_without_keys_loopback_hosts_are_answered(client, host):
    assert client.get("/livez", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.nip.io", "[::1"])
def test_without_keys_other_hosts_are_not(client, host):
    response = client.get("/v1/limits", headers={"host": host})
    assert (response.status_code, response.json()["code"]) == (403, "host_not_allowed")


def test_without_keys_a_foreign_web_page_is_not_answered(client):
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        assert client.get("/v1/limits", headers={"origin": origin}).status_code == 403
    assert client.get("/v1/limits", headers={"origin": "http://localhost:3000"}).status_code == 200


def test_with_keys_any_host_is_answered(fakes, client):
    auth = {"authorization": f"Bearer {fakes.keyring.add('acme', 'predict').secret}", "host": "models.example"}
    assert client.get("/v1/limits", headers=auth).status_code == 200


@pytest.fixture
def tight(tmp_path):
    limits = Limits(max_body_bytes=100, max_package_bytes=200, max_tokens=16)
    return TestClient(build_app(make_fakes(tmp_path, limits=limits).services), base_url="http://127.0.0.1")


def body_of(size: int) -> bytes:
    shell = b'{"task": "feature-extraction", "inputs": ""}'
    return shell[:-2] + b"i" * (size - len(shell)) + shell[-2:]


def test_a_json_body_ends_at_its_cap(tight):
    headers = {"content-type": "application/json"}
    assert tight.post("/v1/predict", content=body_of(100), headers=headers).status_code == 200
    response = tight.post("/v1/predict", content=body_of(101), headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_chunked_body_is_counted_as_it_comes(tight):
    headers = {"content-type": "application/json"}
    for size, status in ((100, 200), (101, 413)):
        body = body_of(size)
        response = tight.post("/v1/predict", content=iter([body[:40], body[40:90], body[90:]]), headers=headers)
        assert response.status_code == status


def test_a_package_has_its_own_cap(tight):
    headers = {"content-type": "application/octet-stream"}
    assert tight.put("/v1/adapters/a", content=b"x" * 150, headers=headers).status_code == 422
    assert tight.put("/v1/adapters/a", content=b"x" * 201, headers=headers).status_code == 413
    assert tight.put("/v1/adapters/a", content=iter([b"x" * 150] * 2), headers=headers).status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "identity"])
def test_encoded_bodies_are_refused(client, encoding):
    response = client.post("/v1/predict", json={"inputs": "i"}, headers={"content-encoding": encoding})
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_other_media_types_are_refused(client, media):
    response = client.post("/v1/predict", content=b"{}", headers={"content-type": media})
    assert response.status_code == 415


def test_json_with_a_charset_is_json(client):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    body = b'{"inputs": "i", "task": "feature-extraction"}'
    assert client.post("/v1/predict", content=body, headers=headers).status_code == 200


def test_the_log_tells_of_a_request_and_nothing_of_its_inputs_or_keys(fakes, client, publish, chorus_log):
    publish("sentiment", tenant="acme")
    secret = fakes.keyring.add("acme", "predict").secret
    auth = {"authorization": f"Bearer {secret}", "x-request-id": "id-7"}
    client.post("/v1/predict", json={"inputs": "canary love", "adapters": "sentiment"}, headers=auth)
    client.post("/v1/predict", json={"inputs": ["canary"], "adapters": "nope"}, headers=auth)
    client.post("/v1/predict", content=b"{canary", headers={**auth, "content-type": "application/json"})
    lines = [JsonFormatter().format(record) for record in chorus_log.records]
    values = [json.loads(line) for line in lines if '"request"' in line]
    assert [(v["method"], v["route"], v["status"], v["tenant"]) for v in values] == [
        ("POST", "/v1/predict", status, "acme") for status in (200, 404, 400)
    ]
    assert "canary" not in "".join(lines)
    assert secret not in "".join(lines)


def test_labels_are_templates_and_known_methods(fakes, client):
    for i in range(5):
        client.get(f"/v1/adapters/name-{i}")
        client.get(f"/nope/{i}")
        client.request(f"WORD{i}", "/livez")
    text = render(fakes.services.metrics.registry)
    assert "name-1" not in text
    assert "WORD1" not in text
    assert 'chorus_http_requests_total{code="404",method="GET",route="unmatched"} 5.0' in text
    assert "chorus_http_requests_in_flight 0.0" in text
