import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.tenancy.keys import SCOPES
from tests.serving import fakes

ROOT = "/v1/token-embeddings"
OCTETS = {"content-type": "application/octet-stream"}
EMBEDDING = fakes.package_bytes(fakes.adapter_manifest(kind="embedding"))


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


@pytest.fixture
def klingon(http):
    assert http.put(f"{ROOT}/klingon", content=EMBEDDING, headers=OCTETS).status_code == 201


def active(http):
    assert http.get(f"{ROOT}/active").json() == {"name": http.get(ROOT).json()["active"]}
    return http.get(ROOT).json()["active"]


def test_default_is_always_listed_and_active_until_another_is(http, klingon):
    answer = http.get(ROOT).json()
    assert [item["name"] for item in answer["items"]] == ["default", "klingon"]
    assert answer["items"][0]["current"] is None
    assert answer["items"][1]["current"]["vocabulary"] == fakes.adapter_manifest(kind="embedding").embedding.vocabulary
    assert active(http) == "default"


def test_pages_hold_default_once(http, klingon):
    first = http.get(ROOT, params={"limit": 1}).json()
    second = http.get(ROOT, params={"after": "a"}).json()
    assert [[item["name"] for item in page["items"]] for page in (first, second)] == [
        ["default", "klingon"],
        ["klingon"],
    ]
    assert [item["name"] for item in http.get(ROOT, params={"prefix": "k"}).json()["items"]] == ["klingon"]


def test_an_embedding_becomes_active_and_default_again(http, klingon):
    assert http.put(f"{ROOT}/active", json={"name": "klingon"}).json() == {"name": "klingon"}
    assert active(http) == "klingon"
    assert http.put(f"{ROOT}/active", json={"name": "default"}).status_code == 200
    assert active(http) == "default"


def test_deleting_the_active_one_makes_default_active(http, klingon):
    http.put(f"{ROOT}/active", json={"name": "klingon"})
    assert http.delete(f"{ROOT}/klingon").status_code == 204
    assert active(http) == "default"


def test_an_unknown_embedding_does_not_become_active(http, klingon):
    answer = http.put(f"{ROOT}/active", json={"name": "vulcan"})
    assert (answer.status_code, answer.json()["code"]) == (404, "embedding_not_found")
    assert active(http) == "default"


@pytest.mark.parametrize("body", [{}, {"name": 3}, {"name": "klingon", "x": 1}])
def test_a_wrong_body_is_422(http, klingon, body):
    assert http.put(f"{ROOT}/active", json=body).status_code == 422


def test_default_is_shown_and_neither_replaced_nor_deleted(http):
    assert http.get(f"{ROOT}/default").json()["name"] == "default"
    for answer in (
        http.delete(f"{ROOT}/default"),
        http.put(f"{ROOT}/default", content=EMBEDDING, headers=OCTETS),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "default_embedding")


def test_choosing_needs_the_scope_publish(held, http, klingon):
    weak = held.keyring.add("default", *(SCOPES - {"publish"}))
    headers = {"authorization": f"Bearer {weak.secret}"}
    assert http.put(f"{ROOT}/active", json={"name": "klingon"}, headers=headers).status_code == 403
    assert http.delete(f"{ROOT}/default", headers=headers).status_code == 403
    assert http.get(f"{ROOT}/active", headers=headers).json() == {"name": "default"}
