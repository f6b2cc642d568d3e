import hashlib

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.config import Limits
from serving.registry.records import Quota
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


def test_a_publish_with_a_key_is_answered_again_as_it_was(http):
    key = {**OCTETS, "idempotency-key": "a1"}
    first = http.put("/v1/adapters/tone", content=PACKAGE, headers=key)
    assert (first.status_code, "idempotent-replayed" in first.headers) == (201, False)
    again = http.put("/v1/adapters/tone", content=PACKAGE, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (again.headers["idempotent-replayed"], again.headers["location"]) == ("true", first.headers["location"])
    assert put(http, "tone").status_code == 200  # without it, these bytes are a version already


@pytest.mark.parametrize("change", [{"content": OTHER}, {"params": {"promote": "true"}}, {"url": "/v1/adapters/bob"}])
def test_a_key_of_another_request_is_422(http, change):
    sent = {"url": "/v1/adapters/tone", "content": PACKAGE, "headers": {**OCTETS, "idempotency-key": "a1"}}
    assert http.put(**sent).status_code == 201
    refused = http.put(**{**sent, **change})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


def test_a_dry_run_tells_what_the_package_is_and_would_do(held, http):
    asked = {"content": PACKAGE, "headers": OCTETS, "params": {"input": "I love it"}}
    answer = http.post("/v1/adapters/team/tone:validate", **asked)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["kind"], told["methods"], told["task"]) == ("adapter", ["lora"], "text-classification")
    assert (told["labels"], told["name"]) == (["NEG", "POS"], "team/tone")
    assert told["modules"] == {"count": 1, "matched": {"linear": ["layer.0.query"]}, "untouched": ["layer.1.query"]}
    assert (told["trial"]["input"], told["trial"]["change"]) == ("I love it", 0.25)
    assert (told["outlook"]["creates"], told["outlook"]["version"], told["outlook"]["refused"]) == (True, 1, None)
    assert http.get("/v1/adapters").json()["items"] == []
    assert held.control.audit == []


def test_a_dry_run_knows_versions_that_are_there_or_were(http):
    def outlook(package):
        asked = http.post("/v1/adapters/tone:validate", content=package, headers=OCTETS)
        return {name: asked.json()["outlook"][name] for name in ("creates", "version")}

    put(http, "tone")
    assert outlook(PACKAGE) == {"creates": False, "version": 1}
    assert outlook(OTHER) == {"creates": True, "version": 2}
    put(http, "tone", OTHER)
    http.delete("/v1/adapters/tone")
    assert outlook(PACKAGE) == {"creates": True, "version": 3}


def test_a_dry_run_says_what_the_quota_would_refuse(held, http):
    put(http, "tone")
    held.directory.quotas["default"] = Quota(adapters=1, nbytes=len(PACKAGE) + 1)
    asked = http.post("/v1/adapters/other:validate", content=OTHER, headers=OCTETS).json()["outlook"]
    assert asked["names"] == {"held": 1, "asked": 1, "allowed": 1}
    assert asked["bytes"] == {"held": len(PACKAGE), "asked": len(OTHER), "allowed": len(PACKAGE) + 1}
    assert "1 names and 1 more are over the quota of 1" in asked["refused"]
    same = http.post("/v1/adapters/other:validate", content=PACKAGE, headers=OCTETS).json()["outlook"]
    assert (same["bytes"]["asked"], "bytes" in same["refused"]) == (0, False)


@pytest.mark.parametrize("text", ["", "x" * 2001])
def test_a_reference_input_has_1_to_2000_characters(http, text):
    answer = http.post("/v1/adapters/tone:validate", content=PACKAGE, headers=OCTETS, params={"input": text})
    assert answer.status_code == 422


def test_tags_are_replaced_as_a_whole_and_the_version_stays(http):
    put(http, "team/tone")
    put(http, "team/tone", OTHER)
    tagged = http.put("/v1/adapters/team/tone@1/tags", json={"tags": {"owner": "search", "run": "7"}})
    assert (tagged.status_code, tagged.json()["selected"]["version"]) == (200, 1)
    assert tagged.json()["selected"]["tags"] == {"owner": "search", "run": "7"}
    assert http.put("/v1/adapters/team/tone@1/tags", json={"tags": {"run": "8"}}).status_code == 200
    versions = http.get("/v1/adapters/team/tone").json()["versions"]
    assert [version["tags"] for version in versions] == [{"run": "8"}, {}]
    assert http.put("/v1/adapters/team/tone@3/tags", json={"tags": {}}).status_code == 404
    assert http.put("/v1/adapters/team/tone@1/tags", json={"tags": {"run": 8}}).status_code == 422


def test_tags_are_set_only_while_the_revision_is_the_one_that_was_read(http):
    put(http, "tone")
    place, read = "/v1/adapters/tone@1/tags", http.get("/v1/adapters/tone").headers["etag"]
    first = http.put(place, json={"tags": {"run": "7"}}, headers={"if-match": read})
    assert (first.status_code, first.headers["etag"] != read) == (200, True)
    late = http.put(place, json={"tags": {"run": "8"}}, headers={"if-match": read})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert first.headers["etag"].strip('"') in late.json()["detail"], "it says what the revision is now"
    assert http.get("/v1/adapters/tone").json()["selected"]["tags"] == {"run": "7"}
    for tag in (first.headers["etag"], "*"):
        assert http.put(place, json={"tags": {"run": "9"}}, headers={"if-match": tag}).status_code == 200
    wrong = http.put(place, json={"tags": {}}, headers={"if-match": "W/1"})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_if_match")


def test_a_name_may_be_called_tags(http):
    assert put(http, "team/tags").status_code == 201
    assert http.put("/v1/adapters/team/tags@1/tags", json={"tags": {"a": "b"}}).status_code == 200
    assert http.get("/v1/adapters/team/tags").json()["selected"]["tags"] == {"a": "b"}
