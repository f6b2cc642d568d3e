import pytest

from serving.api.app import build_app
from tests.serving.fakes import adapter_manifest, head_spec, package_bytes

OCTETS = {"content-type": "application/octet-stream"}
PACKAGE = package_bytes(adapter_manifest(head_spec()))


def operations(fakes) -> list[tuple[str, str, dict]]:
    """Method, a path and the description of every operation."""
    paths = build_app(fakes.services).openapi()["paths"]
    words = {"name": "tone", "alias": "prod", "version": "1", "key_id": "k1"}
    return [
        (method.upper(), path.format(**words), told) for path, held in paths.items() for method, told in held.items()
    ]


def body_of(told: dict) -> dict:
    """What a request of this operation carries at least."""
    content = told.get("requestBody", {}).get("content", {})
    if "application/octet-stream" in content:
        return {"content": PACKAGE, "headers": OCTETS}
    return {"json": {}} if content else {}


def test_no_route_takes_a_query_field_that_it_does_not_describe(client, fakes):
    found = operations(fakes)
    for method, path, told in [*found, ("GET", "/docs", {}), ("PUT", "/v1/token-embeddings/default", {})]:
        answer = client.request(method, f"{path}?nonsense=1", **body_of(told))
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value"), (method, path, answer.text)
        assert "nonsense" in answer.json()["detail"], (method, path)
    assert len(found) > 50


def test_every_query_field_that_is_described_is_taken(client, fakes):
    fields = [
        (method, path, told, parameter["name"])
        for method, path, told in operations(fakes)
        for parameter in told.get("parameters", ())
        if parameter["in"] == "query"
    ]
    for method, path, told, name in fields:
        answer = client.request(method, f"{path}?{name}=1", **body_of(told))
        assert "of this name" not in answer.text, (method, path, name)
    assert {"promote", "tenant", "input", "limit"} <= {name for *_, name in fields}


def test_a_delete_that_was_meant_to_be_dry_deletes_nothing(client, publish):
    publish("tone")
    assert client.delete("/v1/adapters/tone", params={"dry_run": "true"}).status_code == 422
    assert client.get("/v1/adapters/tone").status_code == 200


def test_an_unknown_field_is_told_with_those_that_there_are(client):
    def told(path: str) -> str:
        return client.get(path).json()["detail"]

    assert told("/v1/adapters?limt=2") == (
        "query parameter limt: there is none of this name; did you mean 'limit'? there are prefix, after, limit, tenant"
    )
    assert told("/v1/residency?tenant=acme") == (
        "query parameter tenant: there is none of this name, nor any other here"
    )
    several = client.get("/v1/limits?a=1&b=2&a=3").json()
    assert [fault["detail"].partition(":")[0] for fault in several["errors"]] == [
        "query parameter a",
        "query parameter b",
    ]


def test_a_field_that_stands_in_the_body_is_sent_there(client, publish):
    publish("tone")
    body = {"inputs": "x", "adapters": "tone"}
    answer = client.post("/v1/predict?timeout_ms=1", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "query parameter timeout_ms: it is a member of the body",
    )
    assert client.post("/v1/predict", json=body).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/adapters/tone:pin"), ("DELETE", "/v1/adapters/tone"), ("GET", "/v1/adapters"), ("GET", "/livez")],
)
def test_a_body_that_nobody_reads_is_refused(client, publish, fakes, method, path):
    publish("tone")
    answer = client.request(method, path, json={"version": 1})
    assert (answer.status_code, answer.json()["code"]) == (400, "unexpected_body")
    assert path.partition("tone")[0] in answer.json()["detail"]
    chunked = client.request(method, path, content=iter([b"", b"x"]))
    assert chunked.json()["code"] == "unexpected_body"
    assert client.get("/v1/adapters/tone").json()["pinned"] == []


def test_an_empty_body_is_none(client, publish):
    publish("tone")
    assert client.post("/v1/adapters/tone:preload", content=b"").status_code == 202
    assert client.post("/v1/adapters/tone:preload", content=iter([b""])).status_code == 202
