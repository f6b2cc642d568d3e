import asyncio

import pytest

from serving.commands import placing
from serving.request import Holding, ReplicaReport, ResidencyEntry


def test_ps_shows_what_lies_where(hand, held):
    ref = asyncio.run(held.publish("tone")).version.ref
    entry = ResidencyEntry("default", ref.digest, "device", 2 << 20, leases=1, pinned=True, hits=3, loads=2)
    budgets, used = {"device": 256 << 20}, {"device": 5 << 20}
    held.fleet.told = [ReplicaReport("engine-1", True, budgets, used, {"hits": 3}, (entry,), queued=4, running=2)]
    held.fleet.held = {"engine-1": Holding("engine-1", frozenset())}
    result = hand.run("ps")
    head, row = result.stdout.splitlines()
    assert head.split() == ["REPLICA", "NAME", "VERSION", "TIER", "SIZE", "IN-USE", "HITS", "LOADS", "PINNED"]
    assert row.split() == ["engine-1", "tone", "1", "device", "2.0", "MiB", "1", "3", "2", "yes"]
    assert "engine-1: ready  device 5.0 MiB of 256.0 MiB  queued 4  running 2" in result.stderr
    assert hand.json("ps")["replicas"][0]["entries"][0]["references"] == ["tone@1"]


def test_ps_says_why_a_pin_is_not_kept(hand, held):
    refused = {"default:tone@1": "0 of 8 bytes are free for pins"}
    held.fleet.told = [ReplicaReport("engine-1", True, {}, {}, {}, (), queued=0, running=0, pins_refused=refused)]
    assert "engine-1: tone@1 is not pinned: 0 of 8 bytes are free for pins" in hand.run("ps").stderr


def test_bytes_under_two_names_are_two_lines_and_bytes_without_a_name_show_their_digest():
    entry = {"tier": "host", "bytes": 10, "leases": 0, "hits": 0, "loads": 1, "pinned": False}
    entries = [
        {**entry, "references": ["a@1", "team/b@2"], "digest": "d1"},
        {**entry, "references": [], "digest": "d2"},
    ]
    found = list(placing.rows({"replicas": [{"replica": "e", "entries": entries}]}))
    assert [row[1:3] for row in found] == [("a", "1"), ("team/b", "2"), ("d2", "")]


@pytest.mark.parametrize(
    ("ready", "warm", "told"), [(True, True, "ready"), (True, False, "loading its pins"), (False, True, "not ready")]
)
def test_a_replica_is_ready_once_its_pins_are_there(ready, warm, told):
    replica = {"replica": "e", "ready": ready, "warm": warm, "budgets": {}, "used": {}, "queued": 0, "running": 0}
    assert placing.state(replica).startswith(f"e: {told}  ")


def test_actions_tell_each_replicas_outcome(hand, held):
    asyncio.run(held.publish("tone"))
    for action in ("preload", "pin", "unpin", "unload"):
        result = hand.run(action, "tone")
        assert result.stdout.splitlines()[0] == f"{action} tone@1"
        assert "engine-2" in result.stdout
    assert [call for call, _, _ in held.fleet.calls] == ["preload", "preload", "unload", "unload"]
    assert hand.json("pin", "tone@1")["replicas"]["engine-1"] == "device"


def test_a_replica_that_could_not_is_an_error_and_still_shown(hand, held):
    asyncio.run(held.publish("tone"))

    async def preload(resolved, *, pinned):
        return {"engine-1": "device", "engine-2": "error: out of room, 9 MiB of 8 MiB"}

    held.fleet.preload = preload
    result = hand.run("preload", "tone", code=1)
    assert "error: out of room, 9 MiB of 8 MiB" in result.stdout
    assert "preload failed on engine-2" in result.stderr
