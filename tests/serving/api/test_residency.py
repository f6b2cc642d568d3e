import asyncio
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.request import Holding, ReplicaReport, ResidencyEntry
from tests.serving import fakes


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


def entry(tenant, digest, tier="device"):
    return ResidencyEntry(tenant, digest, tier, nbytes=64, leases=1, pinned=False, hits=3, loads=2)


def report(replica, *entries):
    budgets, used = {"device": 1000, "host": 2000}, {"device": 128, "host": 64}
    faults = ("slot of other:secret@1 is torn",)
    return ReplicaReport(replica, True, budgets, used, {"hits": 6}, entries, queued=1, running=2, faults=faults)


def test_entries_carry_the_callers_names_and_no_other_tenants(held, http):
    mine = asyncio.run(held.publish("tone")).version.ref
    asyncio.run(held.publish("tone-copy"))
    foreign = asyncio.run(held.publish("secret", fakes.adapter_manifest(method="ia3"), tenant="other")).version.ref
    held.fleet.told = [
        report("engine-2"),
        report("engine-1", entry("default", mine.digest), entry("other", foreign.digest), entry("other", mine.digest)),
    ]
    answer = http.get("/v1/residency")
    first, second = answer.json()["replicas"]
    assert (first["replica"], second["replica"], second["entries"]) == ("engine-1", "engine-2", [])
    assert first["entries"] == [
        {
            "references": ["tone@1", "tone-copy@1"],
            "digest": mine.digest,
            "tier": "device",
            "bytes": 64,
            "leases": 1,
            "pinned": False,
            "hits": 3,
            "loads": 2,
        }
    ]
    assert (first["budgets"]["device"], first["used"]["device"], first["counters"]) == (1000, 128, {"hits": 6})
    assert first["faults"] == 1
    assert foreign.digest not in answer.text
    assert "secret" not in answer.text


def test_pins_that_could_not_be_kept_are_told_to_their_tenant_with_the_reason(held, http):
    refused = {"default:tone@1": "no room", "public:public/lang@2": "its bytes are lost", "other:secret@1": "no room"}
    held.fleet.told = [replace(report("engine-1"), pins_refused=refused), report("engine-2")]
    first, second = http.get("/v1/residency").json()["replicas"]
    assert first["pins_refused"] == {"tone@1": "no room", "public/lang@2": "its bytes are lost"}
    assert second["pins_refused"] == {}


def test_what_was_retired_but_still_lies_there_has_no_name(held, http):
    gone = "sha256:" + "0" * 64
    held.fleet.told = [report("engine-1", entry("default", gone, "host"))]
    (found,) = http.get("/v1/residency").json()["replicas"][0]["entries"]
    assert (found["references"], found["digest"]) == ([], gone)


def test_it_needs_the_scope_operate(held, http):
    weak = held.keyring.add("default", "predict", "publish")
    assert http.get("/v1/residency", headers={"authorization": f"Bearer {weak.secret}"}).status_code == 403


def test_what_waits_is_told_to_its_tenant_and_all_of_it_to_an_admin(held, http):
    held.fleet.told = [report("engine-1")]
    lines = (("other", 40.0), ("default", 2.0))
    held.fleet.held = {"engine-1": Holding("engine-1", frozenset(), 42.0, 7.0, lines=lines)}

    def seen(*scopes):
        bearer = {"authorization": f"Bearer {held.keyring.add('default', *scopes).secret}"}
        (replica,) = http.get("/v1/residency", headers=bearer).json()["replicas"]
        return replica

    assert seen("operate")["waiting"] == {"default": 2.0}
    assert seen("operate", "admin")["waiting"] == {"other": 40.0, "default": 2.0}
    told = seen("operate")
    assert (told["queued_cost"], told["cost_per_s"], told["warm"]) == (42.0, 7.0, True)


def test_an_engine_that_has_not_said_yet_what_it_holds_is_not_warm(held, http):
    held.fleet.told = [report("engine-1")]
    (replica,) = http.get("/v1/residency").json()["replicas"]
    assert (replica["warm"], replica["waiting"], replica["cost_per_s"]) == (False, {}, 0.0)


def test_public_packages_are_everyones_to_see(held, http):
    ref = asyncio.run(held.publish("public/mood", tenant="public")).version.ref
    held.fleet.told = [report("engine-1", entry("public", ref.digest))]
    (found,) = http.get("/v1/residency").json()["replicas"][0]["entries"]
    assert found["references"] == ["public/mood@1"]
