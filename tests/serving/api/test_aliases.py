import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.request import Refusal
from serving.tenancy.keys import SCOPES, Caller
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


def test_moving_an_alias_tells_where_it_was(http):
    put(http, "tone")
    put(http, "tone", OTHER)
    first = http.put("/v1/adapters/tone/aliases/prod", json={"version": 1}).json()
    second = http.put("/v1/adapters/tone/aliases/prod", json={"version": 2}).json()
    assert [(told["alias"], told["was"], told["gate"]) for told in (first, second)] == [
        ("prod", None, None),
        ("prod", 1, None),
    ]


def test_what_this_gateway_has_not_heard_yet_does_not_make_it_tell_another_place(held, http):
    put(http, "tone", params={"promote": "true"})
    put(http, "tone", OTHER)
    stale = held.directory.names("default", "adapter")
    http.put("/v1/adapters/tone/aliases/prod", json={"version": 2})
    held.directory.names = lambda *_: stale
    assert http.put("/v1/adapters/tone/aliases/prod", json={"version": 1}).json()["was"] == 2


def test_a_gate_is_passed_before_the_alias_moves(held, http):
    put(http, "tone")
    moved = http.put("/v1/adapters/tone/aliases/prod", json={"version": 1, "gate": {"input": "i love it"}})
    assert moved.status_code == 200
    gate = moved.json()["gate"]
    assert (gate["input"], gate["replicas"]) == ("i love it", {"engine-1": "device", "engine-2": "device"})
    assert sorted(row["label"] for row in gate["outputs"][0]) == ["NEG", "POS"]
    assert [(call, pinned) for call, _, pinned in held.fleet.calls] == [("preload", False)]
    assert [ref.version for ref in held.submit.seen[0].refs] == [1]
    assert http.put("/v1/adapters/tone/aliases/beta", json={"version": 1, "gate": True}).json()["gate"]["input"]


def test_a_gate_that_is_not_passed_moves_nothing_and_is_audited(held, http):
    put(http, "tone", params={"promote": "true"})
    put(http, "tone", OTHER)
    held.submit.refuse[0] = Refusal("", "engine_failed", "not finite", "engine-1")
    refused = http.put("/v1/adapters/tone/aliases/prod", json={"version": 2, "gate": True})
    assert (refused.status_code, refused.json()["code"]) == (424, "gate_failed")
    assert "not finite" in refused.json()["detail"]
    assert http.get("/v1/adapters/tone").json()["aliases"] == {"prod": 1}
    assert [(row.action, "not finite" in row.detail) for row in held.control.audit[-1:]] == [("gate", True)]


def test_what_changes_while_the_gate_is_open_is_not_overrun(held, http):
    for package in (PACKAGE, OTHER):
        put(http, "tone", package)
    preload = held.fleet.preload

    async def meanwhile(resolved, *, pinned):
        await held.control.set_alias(Caller("default", SCOPES, "k"), "adapter", "tone", "prod", 1, if_match=None)
        return await preload(resolved, pinned=pinned)

    held.fleet.preload = meanwhile
    late = http.put("/v1/adapters/tone/aliases/prod", json={"version": 2, "gate": True})
    assert (late.status_code, http.get("/v1/adapters/tone").json()["aliases"]) == (412, {"prod": 1})


def test_without_a_gate_no_engine_is_asked(held, http):
    put(http, "tone")
    assert http.put("/v1/adapters/tone/aliases/prod", json={"version": 1, "gate": False}).status_code == 200
    assert (held.fleet.calls, held.submit.seen) == ([], [])


def test_a_version_that_is_not_there_is_pointed_at_and_a_name_that_is_not_is_in_the_path(http):
    put(http, "tone")
    missing = http.put("/v1/adapters/tone/aliases/prod", json={"version": 99})
    assert (missing.status_code, [fault["pointer"] for fault in missing.json()["errors"]]) == (404, ["/version"])
    unknown = http.put("/v1/adapters/nope/aliases/prod", json={"version": 99})
    assert (unknown.status_code, unknown.json()["errors"]) == (404, [])
