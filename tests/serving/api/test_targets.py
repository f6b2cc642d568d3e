import asyncio

import pytest
from starlette.testclient import TestClient

from adapters.manifest import PartSpec
from serving.api.app import build_app
from serving.tenancy.keys import SCOPES
from tests.serving import fakes

ROOT = "/v1/targets"


@pytest.fixture
def held(tmp_path):
    held = fakes.make_fakes(tmp_path)

    async def publish():
        for name in ("lang", "task"):
            await held.publish(name, fakes.adapter_manifest(fakes.head_spec() if name == "task" else None))
        await held.publish("head", fakes.adapter_manifest(fakes.head_spec(("A", "B", "C")), kind="head"))
        await held.publish("klingon", fakes.adapter_manifest(kind="embedding"), space="embedding")

    asyncio.run(publish())
    return held


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


def put(http, name="news", adapters="lang+task", **members):
    query = {"promote": "true"} if members.pop("promote", False) else {}
    return http.put(f"{ROOT}/{name}", json={"adapters": adapters, **members}, params=query)


def test_a_target_is_a_version_that_says_what_it_is_made_of(http):
    answer = put(http, embedding="klingon", head="head@1")
    assert (answer.status_code, answer.headers["location"]) == (201, f"{ROOT}/news@1")
    assert (answer.json()["name"], answer.json()["version"], answer.json()["created"]) == ("news", 1, True)
    shown = http.get(f"{ROOT}/news")
    composition = shown.json()["composition"]
    assert composition["adapters"] == {"stack": ["lang@1", "task@1"]}
    assert (composition["embedding"], composition["head"]) == ("klingon@1", "head@1")
    members = [(m["role"], m["name"], m["version"]) for m in composition["members"]]
    assert members == [("adapter", "lang", 1), ("adapter", "task", 1), ("head", "head", 1), ("embedding", "klingon", 1)]
    assert shown.json()["selected"]["kind"] == "target"
    assert shown.headers["etag"] == f'"{shown.json()["revision"]}"'


def test_the_same_composition_again_is_the_same_version_however_it_is_written(http):
    assert put(http).status_code == 201
    for written in ("lang+task", ["lang@1", "task"], {"stack": ["lang", "task@1"]}):
        answer = put(http, adapters=written)
        assert (answer.status_code, answer.json()["version"]) == (200, 1)
    shown = http.get(f"{ROOT}/news").json()["composition"]
    assert put(http, adapters=shown["adapters"], head=shown["head"]).json()["version"] == 1
    assert put(http, adapters="task").json()["version"] == 2


def test_a_later_publish_or_promote_of_a_member_changes_nothing(held, http):
    put(http)
    asyncio.run(held.publish("lang", fakes.adapter_manifest(method="ia3"), promote=True))
    assert http.get(f"{ROOT}/news").json()["composition"]["adapters"] == {"stack": ["lang@1", "task@1"]}
    put(http)
    stands_for = [http.get(f"{ROOT}/news@{n}").json()["composition"]["adapters"]["stack"][0] for n in (1, 2)]
    assert stands_for == ["lang@1", "lang@2"]


def test_a_target_moves_by_its_aliases(http):
    put(http, promote=True)
    put(http, adapters="task")
    assert http.get(f"{ROOT}/news").json()["selected"]["version"] == 1
    before = http.get(f"{ROOT}/news").json()["revision"]
    moved = http.put(f"{ROOT}/news/aliases/prod", json={"version": 2}, headers={"if-match": f'"{before}"'})
    assert moved.json()["aliases"] == {"prod": 2}
    outdated = http.put(f"{ROOT}/news/aliases/prod", json={"version": 1}, headers={"if-match": f'"{before}"'})
    assert outdated.status_code == 412
    assert http.get(f"{ROOT}/news@prod").json()["composition"]["adapters"] == {"stack": ["task@1"]}
    assert http.delete(f"{ROOT}/news/aliases/prod").json()["aliases"] == {}
    assert http.put(f"{ROOT}/lang/aliases/prod", json={"version": 1}).status_code == 404


def test_targets_are_listed_by_themselves_and_among_the_adapters(http):
    put(http)
    put(http, "gossip", "task")
    first = http.get(ROOT, params={"limit": 1}).json()
    assert ([item["name"] for item in first["items"]], first["next"]) == (["gossip"], "gossip")
    rest = http.get(ROOT, params={"after": "gossip"}).json()
    assert [item["name"] for item in rest["items"]] == ["news"]
    assert rest["items"][0]["composition"]["adapters"] == {"stack": ["lang@1", "task@1"]}
    everything = {item["name"]: item["current"]["kind"] for item in http.get("/v1/adapters").json()["items"]}
    assert everything == {"gossip": "target", "head": "head", "lang": "adapter", "news": "target", "task": "adapter"}


def test_members_stay_as_long_as_the_target(http):
    put(http, embedding="klingon")
    refused = http.delete("/v1/adapters/lang")
    assert (refused.status_code, refused.json()["code"]) == (409, "held")
    assert "news@1" in refused.json()["detail"]
    assert http.delete("/v1/token-embeddings/klingon").status_code == 409
    assert http.delete(f"{ROOT}/news").status_code == 204
    assert http.get(f"{ROOT}/news").status_code == 404
    assert http.delete("/v1/adapters/lang").status_code == 204


def test_what_is_no_target_is_not_found_here(http):
    for method, path in (("GET", "lang"), ("DELETE", "lang"), ("GET", "nobody")):
        assert http.request(method, f"{ROOT}/{path}").status_code == 404
    assert http.get(f"{ROOT}/lang").json()["code"] == "target_not_found"
    assert http.get("/v1/adapters/lang").status_code == 200


def test_a_name_is_of_packages_or_of_targets(http):
    assert (put(http, "lang").status_code, put(http, "lang").json()["code"]) == (409, "other_kind")


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"adapters": ["lang", "nobody"]}, 404, "/adapters/1"),
        ({"adapters": {"stack": ["lang", "head"]}}, 422, "/adapters/stack/1"),
        ({"adapters": ["lang"], "head": "lang"}, 422, "/head"),
        ({"adapters": ["lang"], "embedding": "lang"}, 404, "/embedding"),
        ({"adapters": {"fuse": ["lang", "task"]}}, 422, "/adapters/name"),
        ({"adapters": None}, 422, "/adapters"),
        ({"adapters": {"parallel": ["lang", "task"]}, "head": "head"}, 422, "/head"),
        ({"adapters": {"fuse": ["lang", "task"], "name": "task"}}, 422, "/adapters/name"),
        ({"adapters": ["lang"], "extra": 1}, 422, "/extra"),
        ({"embedding": "klingon"}, 422, "/adapters"),
        ({"adapters": "lang", "head": 3}, 422, "/head"),
    ],
)
def test_a_wrong_target_is_refused_where_it_is_wrong(http, body, status, pointer):
    answer = http.put(f"{ROOT}/news", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert http.get(ROOT).json()["items"] == []


def test_a_fusion_is_a_member(held, http):
    fusion = fakes.Manifest(
        "fusion", fakes.adapter_manifest().requires, (PartSpec("fusion", {"sites": {}}),), children=("a", "b")
    )
    asyncio.run(held.publish("fused", fusion))
    for name in ("a", "b"):
        asyncio.run(held.publish(name, fakes.adapter_manifest(method="bottleneck")))
    assert put(http, adapters={"fuse": ["a", "b"], "name": "fused"}, head="head").status_code == 201
    roles = [member["role"] for member in http.get(f"{ROOT}/news").json()["composition"]["members"]]
    assert roles == ["adapter", "adapter", "fusion", "head"]


def test_the_package_of_a_target_can_be_fetched_and_its_history_read(http):
    put(http)
    assert http.get("/v1/adapters/news@1:package").status_code == 200
    assert http.get("/v1/adapters/news:history").json()["items"][0]["subject"] == "adapter:news"


def test_putting_needs_the_scope_publish_and_another_tenants_names_are_absent(held, http):
    weak = held.keyring.add("default", *(SCOPES - {"publish"}))
    strong, foreign = held.keyring.add("default", *SCOPES), held.keyring.add("acme", *SCOPES)

    def send(key, method="PUT", **options):
        return http.request(method, f"{ROOT}/news", headers={"authorization": f"Bearer {key.secret}"}, **options)

    assert send(weak, json={"adapters": "lang"}).status_code == 403
    assert send(foreign, json={"adapters": "lang"}).json()["code"] == "adapter_not_found"
    assert send(strong, json={"adapters": "lang"}).status_code == 201
    assert send(weak, "GET").status_code == 200
    assert send(weak, "DELETE").status_code == 403
    assert send(foreign, "GET").status_code == 404


def test_loading_and_pinning_a_target_is_loading_what_it_is_made_of(held, http):
    put(http, embedding="klingon")
    assert http.post("/v1/adapters/news:preload").json()["replicas"] == {"engine-1": "device", "engine-2": "device"}
    assert [(call, ref.name) for call, ref, _ in held.fleet.calls] == [
        ("preload", "lang"),
        ("preload", "task"),
        ("preload", "klingon"),
    ]
    assert http.post("/v1/adapters/news:pin").status_code == 202
    refused = http.post("/v1/adapters/lang:unload")
    assert (refused.status_code, "news@1" in refused.json()["detail"]) == (409, True)
    assert http.post("/v1/token-embeddings/klingon:unload").status_code == 409
    assert http.post("/v1/adapters/news:unload").status_code == 409
    assert http.delete(f"{ROOT}/news").status_code == 409
    http.post("/v1/adapters/task:pin")
    held.fleet.calls.clear()
    assert http.post("/v1/adapters/news:unpin").status_code == 202
    assert [(call, ref.name, pinned) for call, ref, pinned in held.fleet.calls] == [
        ("unload", "lang", False),
        ("preload", "task", True),
        ("unload", "klingon", False),
    ]


def test_every_operation_is_described(http):
    schema = http.get("/openapi.json").json()
    paths = [path for path in schema["paths"] if path.startswith(ROOT)]
    operations = {op["operationId"] for path in paths for op in schema["paths"][path].values()}
    assert operations == {
        "list_target",
        "show_target",
        "put_target",
        "delete_target",
        "set_alias_target",
        "delete_alias_target",
        "set_tags_target",
    }
    answer = schema["paths"][f"{ROOT}/{{name}}"]["put"]["responses"]
    assert {"200", "201"} <= set(answer)


def test_a_target_is_tagged_and_promoted_through_a_gate(held, http):
    put(http)
    tagged = http.put(f"{ROOT}/news@1/tags", json={"tags": {"owner": "search"}})
    assert tagged.json()["selected"]["tags"] == {"owner": "search"}
    late = http.put(f"{ROOT}/news@1/tags", json={"tags": {}}, headers={"if-match": '"99"'})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert http.put(f"{ROOT}/task@1/tags", json={"tags": {}}).json()["code"] == "target_not_found"
    held.fleet.calls.clear()
    moved = http.put(f"{ROOT}/news/aliases/prod", json={"version": 1, "gate": {"input": "i love it"}})
    assert (moved.status_code, moved.json()["was"]) == (200, None)
    assert [ref.name for _, ref, _ in held.fleet.calls] == ["lang", "task"]
    assert [ref.name for ref in held.submit.seen[-1].refs] == ["lang", "task"]
