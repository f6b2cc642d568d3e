import pytest

from serving.commands.meter import Meter


def sample(replica="e", *, used=None, queued_cost=0.0, rate=0.0, ready=True, warm=True, **counters):
    return {
        "replica": replica,
        "ready": ready,
        "warm": warm,
        "budgets": {"device": 100},
        "used": {"device": 40} if used is None else used,
        "counters": counters,
        "queued": 3,
        "running": 2,
        "queued_cost": queued_cost,
        "cost_per_s": rate,
        "waiting": {"acme": queued_cost} if queued_cost else {},
        "faults": 0,
        "entries": [],
    }


def read(*samples, seconds=2.0):
    """The loads of the last of several looks."""
    meter = Meter()
    for number, replicas in enumerate(samples):
        found = meter.read({"replicas": list(replicas)}, 100 + number * seconds)
    return found


def test_the_first_look_has_totals_and_no_rates():
    (load,) = read([sample(hits=30, misses=10, loads=10)])
    assert (load.uses_per_s, load.loads_per_s, load.hit_ratio) == (None, None, 0.75)
    assert (load.queued, load.running, load.state) == (3, 2, "ready")


def test_the_second_look_has_what_grew_in_a_second():
    before, after = sample(hits=30, misses=10, loads=10), sample(hits=36, misses=12, loads=11)
    (load,) = read([before], [after])
    assert (load.uses_per_s, load.loads_per_s) == (4.0, 0.5)
    assert load.hit_ratio == 0.75
    (idle,) = read([before], [before])
    assert (idle.uses_per_s, idle.hit_ratio) == (0.0, None)


def test_a_replica_that_counts_anew_or_is_new_has_no_rate():
    before, after = sample(hits=30, misses=10, loads=9), sample(hits=3, misses=1, loads=1)
    (load,) = read([before], [after])
    assert (load.uses_per_s, load.hit_ratio) == (None, 0.75)
    known, new = read([sample(hits=1, misses=0)], [sample(hits=1, misses=0), sample("f", hits=1, misses=0)])
    assert (known.uses_per_s, new.uses_per_s) == (0.0, None)


def test_tiers_have_their_bytes_and_the_counters_that_there_are():
    before = sample(evictions_device=4, hits_device=1, misses_device=1)
    after = sample(evictions_device=8, hits_device=2, misses_device=4, used={"device": 40, "disk": 7})
    (load,) = read([before], [after])
    device, disk = load.tiers["device"], load.tiers["disk"]
    assert (device.used, device.budget, device.evictions_per_s, device.hit_ratio) == (40, 100, 2.0, 0.25)
    assert (disk.used, disk.budget, disk.evictions_per_s, disk.hit_ratio) == (7, None, None, None)


def test_the_wait_is_what_queues_at_the_measured_rate():
    (load,) = read([sample(queued_cost=50.0, rate=200.0)])
    assert (load.wait_s, load.waiting) == (0.25, {"acme": 50.0})
    (unknown,) = read([sample(queued_cost=50.0)])
    assert unknown.wait_s is None


@pytest.mark.parametrize(
    ("ready", "warm", "state"), [(True, True, "ready"), (True, False, "warming"), (False, True, "down")]
)
def test_the_state_is_in_a_word(ready, warm, state):
    assert read([sample(ready=ready, warm=warm)])[0].state == state
