import asyncio
import hashlib

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


@pytest.mark.parametrize("selector", ["", "@1", "@prod", "@sha256:" + hashlib.sha256(PACKAGE).hexdigest()])
def test_showing_a_name_tells_which_version_the_selector_means(http, selector):
    put(http, "team/tone", PACKAGE, params={"promote": "true"})
    put(http, "team/tone", OTHER)
    answer = http.get(f"/v1/adapters/team/tone{selector}")
    assert answer.status_code == 200
    value = answer.json()
    assert [version["version"] for version in value["versions"]] == [1, 2]
    assert value["selected"]["version"] == 1
    assert value["resolved_from"] == ("prod" if selector in {"", "@prod"} else None)
    assert answer.headers["etag"] == f'"{value["revision"]}"'


def test_a_version_says_what_its_manifest_says(http):
    tagger = fakes.adapter_manifest(fakes.head_spec(("O", "B"), "token"), embedding="klingon")
    put(http, "tagger", fakes.package_bytes(tagger))
    selected = http.get("/v1/adapters/tagger").json()["selected"]
    assert (selected["task"], selected["labels"]) == ("token-classification", ["O", "B"])
    assert selected["requires"]["embedding"] == "klingon"
    assert selected["created"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize("path", ["tone", "tone@2", "tone@prod", "tone:history", "tone:package", "x/y"])
def test_what_is_not_there_is_404(http, path):
    if path not in {"tone", "tone:history", "tone:package"}:
        put(http, "tone")
    answer = http.get(f"/v1/adapters/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "adapter_not_found")


def test_a_package_comes_back_byte_for_byte(http):
    put(http, "team/tone")
    answer = http.get("/v1/adapters/team/tone@1:package")
    assert answer.content == PACKAGE
    assert answer.headers["etag"] == f'"sha256:{hashlib.sha256(PACKAGE).hexdigest()}"'
    assert "team_tone-1.safetensors" in answer.headers["content-disposition"]


@pytest.mark.parametrize("tag", ['W/"1"', '"x"', '"1", "2"', '"²"'])
def test_an_if_match_that_is_no_revision_is_400(http, tag):
    put(http, "tone")
    answer = http.put(
        "/v1/adapters/tone/aliases/prod", json={"version": 1}, headers={b"if-match": tag.encode("latin-1")}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_if_match")


def test_history_is_newest_first(http):
    put(http, "tone", params={"promote": "true"})
    put(http, "tone", OTHER, params={"promote": "true"})
    items = http.get("/v1/adapters/tone:history").json()["items"]
    assert [item["detail"] for item in items] == ["version 2", "version 1"]


def test_any_scope_of_a_tenant_may_read(held, http):
    asyncio.run(held.publish("tone", tenant="acme"))
    for scope in SCOPES - {"admin", "metrics"}:
        key = held.keyring.add("acme", scope)
        assert http.get("/v1/adapters/tone", headers={"authorization": f"Bearer {key.secret}"}).status_code == 200
    assert http.get("/v1/adapters/tone").status_code == 401


def test_a_key_that_may_only_predict_gets_neither_weights_nor_audit(held, http):
    asyncio.run(held.publish("tone", tenant="acme"))
    for scope, status in (("predict", 403), ("publish", 200), ("operate", 200)):
        bearer = {"authorization": f"Bearer {held.keyring.add('acme', scope).secret}"}
        for verb in ("package", "history"):
            assert http.get(f"/v1/adapters/tone:{verb}", headers=bearer).status_code == status


QUERIES = ({}, {"tenant": "public"})


def test_public_names_are_listed_on_request_and_ones_own_without(held, http):
    put(http, "tone")
    asyncio.run(held.publish("public/mood", tenant="public"))
    names = [[item["name"] for item in http.get("/v1/adapters", params=query).json()["items"]] for query in QUERIES]
    assert names == [["tone"], ["public/mood"]]
    assert http.get("/v1/adapters", params={"tenant": "other"}).status_code == 422
