import asyncio

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.config import REPLACED_S
from serving.errors import NotReady
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


def test_a_pin_that_would_not_fit_is_refused_with_numbers_and_not_stored(held, http):
    put(http, "tone")
    held.fleet.needed, held.fleet.free = 300, 200
    refused = http.post("/v1/adapters/tone:pin")
    assert (refused.status_code, refused.json()["code"]) == (409, "would_exceed_device")
    told = refused.json()
    assert [fault["detail"] for fault in told["errors"]] == [
        f"engine-{n}: 300 bytes are needed, 200 are free for pins" for n in (1, 2)
    ]
    assert "unpin something" in told["detail"]
    assert http.get("/v1/adapters/tone").json()["pinned"] == []
    assert held.fleet.calls == []


def test_one_engine_without_room_is_enough_to_refuse(held, http):
    put(http, "tone")

    async def room(refs):
        return [("engine-1", 10, 50), ("engine-2", 10, 5)]

    held.fleet.room = room
    detail = http.post("/v1/adapters/tone:pin").json()["detail"]
    assert ("engine-2" in detail, "engine-1" in detail) == (True, False)


def test_what_is_pinned_already_needs_no_room_again(held, http):
    put(http, "tone")
    assert http.post("/v1/adapters/tone:pin").status_code == 202
    held.fleet.free = 0
    assert http.post("/v1/adapters/tone:pin").status_code == 202
    put(http, "copy")
    assert http.post("/v1/adapters/copy:pin").status_code == 202  # the same bytes
    put(http, "other", OTHER)
    assert http.post("/v1/adapters/other:pin").status_code == 409


def test_a_replica_that_fails_is_told_beside_those_that_did_it(held, http):
    put(http, "tone")

    async def preload(resolved, *, pinned):
        return {"engine-2": "error: out of room", "engine-1": "device"}

    held.fleet.preload = preload
    answer = http.post("/v1/adapters/tone:preload")
    assert (answer.status_code, answer.json()["replicas"]) == (
        202,
        {"engine-1": "device", "engine-2": "error: out of room"},
    )


@pytest.mark.parametrize("action", ["preload", "unload"])
def test_what_no_engine_did_is_no_success(held, http, action):
    put(http, "tone")

    async def nobody(resolved, **_):
        return {}

    held.fleet.preload = held.fleet.unload = nobody
    answer = http.post(f"/v1/adapters/tone:{action}")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.headers["retry-after"] == f"{REPLACED_S:g}"


def test_a_pin_whose_room_is_not_known_is_not_stored(held, http):
    put(http, "tone")

    async def room(refs):
        raise NotReady("engine-2 gave no answer in 35 s", retry_after=5.0)

    held.fleet.room = room
    answer = http.post("/v1/adapters/tone:pin")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert http.get("/v1/adapters/tone").json()["pinned"] == []
    assert held.fleet.calls == []


def test_a_pin_that_one_engine_does_not_answer_is_kept_and_told(held, http):
    put(http, "tone")
    told = {"engine-1": "device", "engine-2": "error: no answer in 35 s"}

    async def preload(resolved, *, pinned):
        held.fleet.room = silent
        return told

    async def silent(refs):
        raise NotReady("engine-2 gave no answer in 35 s")

    held.fleet.preload = preload
    answer = http.post("/v1/adapters/tone:pin")
    assert (answer.status_code, answer.json()["replicas"]) == (202, told)
    assert http.get("/v1/adapters/tone").json()["pinned"] == [1]


def test_all_that_a_target_is_made_of_is_loaded_at_a_time(held, http):
    put(http, "tone")
    put(http, "other", OTHER)
    assert http.put("/v1/targets/both", json={"adapters": "tone+other"}).status_code == 201
    met = asyncio.Barrier(2)

    async def preload(resolved, *, pinned):
        async with asyncio.timeout(5):
            await met.wait()
        return {"engine-1": resolved.version.ref.name}

    held.fleet.preload = preload
    answer = http.post("/v1/adapters/both:preload")
    assert (answer.status_code, answer.json()["replicas"]) == (202, {"engine-1": "tone, other"})


class Small:
    """Engines with room for one pin of two packages: room is measured when it is asked for, and taken by a load."""

    def __init__(self, fleet):
        self.pinned, self.unload = {}, fleet.unload
        fleet.preload, fleet.room, fleet.unload = self.preload, self.room, self.let_go
        self.after_room = None

    async def preload(self, resolved, *, pinned):
        digest = resolved.version.ref.digest
        taken = self.pinned and digest not in self.pinned
        if pinned and not taken:
            self.pinned[digest] = resolved.version.ref
        return {"engine-1": "error: no room beside the pins" if taken else "device"}

    async def room(self, refs):
        told = [("engine-1", 100 * sum(ref.digest not in self.pinned for ref in refs), 0 if self.pinned else 100)]
        if self.after_room is not None:
            (act, self.after_room) = (self.after_room, None)
            await act()
        return told

    async def let_go(self, resolved):
        self.pinned.pop(resolved.version.ref.digest, None)
        return await self.unload(resolved)


def pinned(http, name):
    return http.get(f"/v1/adapters/{name}").json()["pinned"]


def test_of_two_pins_at_once_that_do_not_fit_together_one_is_refused_and_taken_back(held, http):
    put(http, "tone")
    put(http, "other", OTHER)
    engines = Small(held.fleet)

    async def meanwhile():  # the other one comes between the question and the pin
        assert (await asyncio.to_thread(http.post, "/v1/adapters/other:pin")).status_code == 202

    engines.after_room = meanwhile
    refused = http.post("/v1/adapters/tone:pin")
    assert (refused.status_code, refused.json()["code"]) == (409, "would_exceed_device")
    assert "engine-1: 100 bytes are needed, 0 are free for pins" in refused.json()["detail"]
    assert (pinned(http, "tone"), pinned(http, "other")) == ([], [1])
    assert [ref.name for ref in engines.pinned.values()] == ["other"]
    assert [(row.action, row.name) for row in held.control.audit[-2:]] == [("pin", "tone"), ("unpin", "tone")]


def test_a_pin_that_an_engine_could_not_load_now_is_kept_and_told(held, http):
    put(http, "tone")

    async def preload(resolved, *, pinned):
        return {"engine-1": "device", "engine-2": "error: the blob store does not answer"}

    held.fleet.preload = preload
    answer = http.post("/v1/adapters/tone:pin")
    assert (answer.status_code, answer.json()["replicas"]["engine-2"][:5]) == (202, "error")
    assert pinned(http, "tone") == [1]  # the engines try again
