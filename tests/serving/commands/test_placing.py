import asyncio

from serving.request import ReplicaReport, ResidencyEntry


def test_ps_shows_what_lies_where(hand, held):
    ref = asyncio.run(held.publish("tone")).version.ref
    entry = ResidencyEntry("default", ref.digest, "device", 2 << 20, leases=1, pinned=True, hits=3, loads=2)
    budgets, used = {"device": 256 << 20}, {"device": 5 << 20}
    held.fleet.told = [ReplicaReport("engine-1", True, budgets, used, {"hits": 3}, (entry,), queued=4, running=2)]
    result = hand.run("ps")
    assert result.stdout.splitlines()[1].split() == ["engine-1", "tone@1", "device", "2.0", "MiB", "1", "yes", "3", "2"]
    assert "engine-1: ready  device 5.0 MiB of 256.0 MiB  queued 4  running 2" in result.stderr
    assert hand.json("ps")["replicas"][0]["entries"][0]["references"] == ["tone@1"]


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
