import asyncio

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.tenancy.keys import SCOPES
from tests.serving import fakes

OCTETS = {"content-type": "application/octet-stream"}
PACKAGE = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec()))
OTHER = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec(("A", "B", "C"))))
EMBEDDING = fakes.package_bytes(fakes.adapter_manifest(kind="embedding"))
SPACES = [("/v1/adapters", PACKAGE), ("/v1/token-embeddings", EMBEDDING)]


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


def put(http, name, package=PACKAGE, **options):
    return http.put(f"/v1/adapters/{name}", content=package, headers=OCTETS, **options)


def test_another_tenants_adapter_answers_as_an_absent_one(held, http):
    asyncio.run(held.publish("secret", tenant="other"))
    calls = [
        http.get("/v1/adapters/secret"),
        http.get("/v1/adapters/secret:package"),
        http.get("/v1/adapters/secret:history"),
        http.post("/v1/adapters/secret:preload"),
        http.post("/v1/adapters/secret:pin"),
        http.delete("/v1/adapters/secret"),
        http.put("/v1/adapters/secret/aliases/prod", json={"version": 1}),
    ]
    assert [call.status_code for call in calls] == [404] * len(calls)
    assert http.get("/v1/adapters").json()["items"] == []
    assert held.fleet.calls == []


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("PUT", "tone", "publish"),
        ("DELETE", "tone", "publish"),
        ("PUT", "tone/aliases/prod", "publish"),
        ("DELETE", "tone/aliases/prod", "publish"),
        ("POST", "tone:validate", "publish"),
        ("POST", "tone:preload", "operate"),
        ("POST", "tone:unload", "operate"),
        ("POST", "tone:pin", "operate"),
        ("POST", "tone:unpin", "operate"),
    ],
)
def test_each_write_needs_its_own_scope(held, http, method, path, scope):
    weak = held.keyring.add("default", *(SCOPES - {scope}))
    answer = http.request(
        method, f"/v1/adapters/{path}", headers={"authorization": f"Bearer {weak.secret}"}, **_body(method, path)
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert scope in answer.json()["detail"]


def _body(method, path):
    return {"json": {"version": 1}} if method == "PUT" and "aliases" in path else {}
