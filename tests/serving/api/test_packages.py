import asyncio
import hashlib

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.config import Limits
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


@pytest.mark.parametrize(("root", "package"), SPACES)
def test_publishing_answers_201_with_its_location_and_the_same_bytes_again_200(http, root, package):
    first = http.put(f"{root}/team/tone", content=package, headers=OCTETS)
    assert (first.status_code, first.headers["location"]) == (201, f"{root}/team/tone@1")
    digest = "sha256:" + hashlib.sha256(package).hexdigest()
    assert first.json() == {
        "name": "team/tone",
        "version": 1,
        "digest": digest,
        "bytes": len(package),
        "created": True,
        "promoted": None,
    }
    again = http.put(f"{root}/team/tone", content=package, headers=OCTETS)
    assert (again.status_code, again.json()["created"], again.json()["version"]) == (200, False, 1)


def test_publishing_moves_no_alias_unless_asked(http):
    put(http, "tone")
    assert http.get("/v1/adapters/tone").json()["aliases"] == {}
    assert put(http, "tone", OTHER, params={"promote": "true"}).json()["promoted"] == "prod"
    assert http.get("/v1/adapters/tone").json()["aliases"] == {"prod": 2}


def test_an_unknown_query_parameter_is_refused_rather_than_ignored(http):
    answer = put(http, "tone", params={"promte": "true"})
    assert answer.status_code == 422
    assert "promte" in answer.json()["detail"]
    assert http.get("/v1/adapters").json()["items"] == []


@pytest.mark.parametrize("name", ["UPPER", "base", "a/aliases", "a/b/c", "-x", "tone@1"])
def test_a_name_outside_the_grammar_is_400(http, name):
    answer = put(http, name)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_name")


def test_a_body_that_is_no_package_is_refused_with_its_media_type_named(http):
    for media in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"):
        answer = http.put("/v1/adapters/tone", content=PACKAGE, headers={"content-type": media})
        assert answer.status_code == 415
        assert "application/octet-stream" in answer.json()["detail"]
    encoded = http.put("/v1/adapters/tone", content=PACKAGE, headers={**OCTETS, "content-encoding": "gzip"})
    assert encoded.status_code == 415
    assert http.put("/v1/adapters/tone", content=PACKAGE, headers={"content-type": ""}).status_code == 201


def test_a_package_over_the_limit_is_413(tmp_path):
    held = fakes.make_fakes(tmp_path, limits=Limits(max_package_bytes=100))
    http = TestClient(build_app(held.services), base_url="http://127.0.0.1")
    assert put(http, "tone").status_code == 413
    assert http.put("/v1/adapters/tone", content=iter([PACKAGE]), headers=OCTETS).status_code == 413
    assert http.get("/v1/adapters").json()["items"] == []


@pytest.mark.parametrize(("root", "package"), [(SPACES[0][0], EMBEDDING), (SPACES[1][0], PACKAGE)])
def test_a_package_of_the_other_namespace_is_422(http, root, package):
    answer = http.put(f"{root}/tone", content=package, headers=OCTETS)
    assert (answer.status_code, answer.json()["code"]) == (422, "does_not_fit")


def test_uploads_are_counted_by_status(held, http):
    put(http, "tone")
    put(http, "tone")
    put(http, "tone", b"nonsense")
    count = held.services.metrics.registry.get_sample_value
    assert [count("chorus_publishes_total", {"code": code}) for code in ("201", "200", "422")] == [1, 1, 1]


def test_validating_reports_and_stores_nothing(http):
    answer = http.post("/v1/adapters/tone:validate", content=PACKAGE, headers=OCTETS)
    assert answer.status_code == 200
    assert (answer.json()["method"], answer.json()["labels"]) == ("lora", ["NEG", "POS"])
    assert http.get("/v1/adapters").json()["items"] == []


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


def test_a_package_comes_back_byte_for_byte(http):
    put(http, "team/tone")
    answer = http.get("/v1/adapters/team/tone@1:package")
    assert answer.content == PACKAGE
    assert answer.headers["etag"] == f'"sha256:{hashlib.sha256(PACKAGE).hexdigest()}"'
    assert "team_tone-1.safetensors" in answer.headers["content-disposition"]


def test_an_alias_moves_only_while_the_revision_is_the_one_that_was_read(http):
    put(http, "tone")
    put(http, "tone", OTHER)
    stale = http.get("/v1/adapters/tone").headers["etag"]
    moved = http.put("/v1/adapters/tone/aliases/prod", json={"version": 2}, headers={"if-match": stale})
    assert (moved.status_code, moved.json()["aliases"]) == (200, {"prod": 2})
    assert moved.headers["etag"] != stale
    late = http.put("/v1/adapters/tone/aliases/prod", json={"version": 1}, headers={"if-match": stale})
    assert late.status_code == 412
    assert http.get("/v1/adapters/tone").json()["aliases"] == {"prod": 2}
    anyway = http.put("/v1/adapters/tone/aliases/prod", json={"version": 1}, headers={"if-match": "*"})
    assert anyway.json()["aliases"] == {"prod": 1}


def test_an_alias_is_removed_only_while_the_revision_is_the_one_that_was_read(http):
    put(http, "tone", params={"promote": "true"})
    assert http.delete("/v1/adapters/tone/aliases/prod", headers={"if-match": '"99"'}).status_code == 412
    etag = http.get("/v1/adapters/tone").headers["etag"]
    gone = http.delete("/v1/adapters/tone/aliases/prod", headers={"if-match": etag})
    assert (gone.status_code, gone.json()["aliases"]) == (200, {})
    assert http.delete("/v1/adapters/tone/aliases/prod").status_code == 404


@pytest.mark.parametrize("tag", ['W/"1"', '"x"', '"1", "2"', '"²"'])
def test_an_if_match_that_is_no_revision_is_400(http, tag):
    put(http, "tone")
    answer = http.put(
        "/v1/adapters/tone/aliases/prod", json={"version": 1}, headers={b"if-match": tag.encode("latin-1")}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_if_match")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/version"), ({"version": "1"}, "/version"), ({"version": 0}, "/version"), ({"version": 1, "x": 2}, "/x")],
)
def test_a_wrong_alias_body_is_422_and_says_where(http, body, pointer):
    put(http, "tone")
    answer = http.put("/v1/adapters/tone/aliases/prod", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("alias", ["12", "UP", "sha256:abc"])
def test_an_alias_that_would_read_as_something_else_is_400(http, alias):
    put(http, "tone")
    assert http.put(f"/v1/adapters/tone/aliases/{alias}", json={"version": 1}).status_code == 400


def test_retiring_is_refused_while_an_alias_or_a_pin_holds_the_version(http):
    put(http, "tone", params={"promote": "true"})
    put(http, "tone", OTHER)
    assert http.delete("/v1/adapters/tone@1").status_code == 409
    assert http.delete("/v1/adapters/tone@prod").status_code == 400
    http.post("/v1/adapters/tone@2:pin")
    assert http.delete("/v1/adapters/tone@2").status_code == 409
    http.post("/v1/adapters/tone@2:unpin")
    assert http.delete("/v1/adapters/tone@2").status_code == 204
    assert [version["version"] for version in http.get("/v1/adapters/tone").json()["versions"]] == [1]


def test_engines_hear_of_retired_bytes_unless_another_name_holds_them(held, http):
    put(http, "tone")
    put(http, "twin")
    put(http, "tone", OTHER)
    assert http.delete("/v1/adapters/tone").status_code == 204
    retired = [(call[1].name, call[1].version) for call in held.fleet.calls if call[0] == "retire"]
    assert retired == [("tone", 2)]
    assert http.delete("/v1/adapters/twin@1").status_code == 204
    assert [call[1].name for call in held.fleet.calls if call[0] == "retire"] == ["tone", "twin"]


def test_versions_are_not_used_again_after_a_whole_name_was_retired(http):
    put(http, "tone")
    assert http.delete("/v1/adapters/tone").status_code == 204
    assert http.get("/v1/adapters/tone").status_code == 404
    assert put(http, "tone", OTHER).json()["version"] == 2


def test_replicas_act_on_the_pinned_version_and_report(held, http):
    put(http, "tone", params={"promote": "true"})
    put(http, "tone", OTHER)
    for action, stored in (("preload", False), ("pin", True), ("unpin", False), ("unload", False)):
        answer = http.post(f"/v1/adapters/tone:{action}")
        assert (answer.status_code, answer.json()["action"], answer.json()["version"]) == (202, action, 1)
        assert set(answer.json()["replicas"]) == {"engine-1", "engine-2"}
        assert (1 in http.get("/v1/adapters/tone").json()["pinned"]) is stored
    assert [(call, ref.version, pinned) for call, ref, pinned in held.fleet.calls] == [
        ("preload", 1, False),
        ("preload", 1, True),
        ("unload", 1, False),
        ("unload", 1, False),
    ]


def test_a_pinned_version_is_not_unloaded_under_any_of_its_names(held, http):
    put(http, "tone")
    put(http, "copy")
    http.post("/v1/adapters/tone:pin")
    for name in ("tone", "copy"):
        answer = http.post(f"/v1/adapters/{name}:unload")
        assert (answer.status_code, answer.json()["code"]) == (409, "held")
        assert "tone@1" in answer.json()["detail"]
    assert [call for call, _, _ in held.fleet.calls] == ["preload"]
    http.post("/v1/adapters/tone:unpin")
    assert http.post("/v1/adapters/copy:unload").status_code == 202


def test_unpinning_one_name_leaves_the_pin_that_another_has_on_the_same_bytes(held, http):
    for name in ("tone", "copy"):
        put(http, name)
        http.post(f"/v1/adapters/{name}:pin")
    http.post("/v1/adapters/tone:unpin")
    assert [call for call, _, _ in held.fleet.calls] == ["preload"] * 3  # the last one pins what is pinned: it stays
    http.post("/v1/adapters/copy:unpin")
    assert [call for call, _, _ in held.fleet.calls] == ["preload"] * 3 + ["unload"]


def test_history_is_newest_first(http):
    put(http, "tone", params={"promote": "true"})
    put(http, "tone", OTHER, params={"promote": "true"})
    items = http.get("/v1/adapters/tone:history").json()["items"]
    assert [item["detail"] for item in items] == ["version 2", "version 1"]


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
        method, f"/v1/adapters/{path}", headers={"authorization": f"Bearer {weak.secret}"}, **_body(path)
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
    assert scope in answer.json()["detail"]


def test_any_scope_may_read(held, http):
    asyncio.run(held.publish("tone", tenant="acme"))
    for scope in SCOPES:
        key = held.keyring.add("acme", scope)
        assert http.get("/v1/adapters/tone", headers={"authorization": f"Bearer {key.secret}"}).status_code == 200
    assert http.get("/v1/adapters/tone").status_code == 401


def test_a_key_that_may_only_predict_gets_neither_weights_nor_audit(held, http):
    asyncio.run(held.publish("tone", tenant="acme"))
    for scope, status in (("predict", 403), ("publish", 200), ("operate", 200)):
        bearer = {"authorization": f"Bearer {held.keyring.add('acme', scope).secret}"}
        for verb in ("package", "history"):
            assert http.get(f"/v1/adapters/tone:{verb}", headers=bearer).status_code == status


def _body(path):
    return {"json": {"version": 1}} if "aliases" in path else {}
