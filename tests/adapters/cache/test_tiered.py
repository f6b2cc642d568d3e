"""Leases are all or nothing, never on the wrong weights, and everybody who fits gets one."""

import random
import threading
import time

import pytest

from adapters.cache.tiered import Lease
from adapters.errors import OutOfRoom
from adapters.refs import AdapterRef
from adapters.weights import Resident
from tests.adapters.cache.fakes import UNIT, WAIT, Embedding


def entry(world, ref):
    return {held.ref: held for held in world.cache.residency()}.get(ref)


def test_a_lease_holds_adapters_on_the_device_and_embeddings_on_the_host(build):
    world = build(device=4)
    (task,), (words,) = world.publish("a", 1), world.publish("e", 9, embedding=True)
    with world.cache.acquire([task, words], WAIT) as lease:
        assert isinstance(lease.resident[task], Resident) and isinstance(lease.resident[words], Embedding)
        assert lease.tiers == {task.digest: "disk", words.digest: "disk"}
        assert entry(world, words).tier == "host" and entry(world, task).tier == "device"
        assert entry(world, task).leases == entry(world, words).leases == 1
    assert entry(world, task).leases == 0
    with world.cache.try_acquire([task, words]) as lease:
        assert lease.tiers == {task.digest: "device", words.digest: "host"}
    assert (entry(world, task).hits, entry(world, task).loads) == (1, 1)


def test_the_bare_backbone_needs_no_load(build):
    world = build(device=0)
    with world.cache.try_acquire([]) as lease:
        assert dict(lease.resident) == {}


def test_nothing_is_leased_if_one_is_missing(build):
    world = build(device=4)
    here, absent = world.publish("ha", 1)
    world.cache.acquire([here], WAIT).release()
    assert world.cache.try_acquire([here, absent]) is None
    assert entry(world, here).leases == 0 and world.registry.loaded["a"] == 0
    assert world.cache.evict(here)


def test_releasing_twice_ends_one_lease(build):
    world = build(device=4)
    (ref,) = world.publish("a", 1)
    first, second = world.cache.acquire([ref], WAIT), world.cache.try_acquire([ref, ref])
    first.release()
    first.release()
    assert entry(world, ref).leases == 1 and not world.cache.evict(ref)
    second.release()
    assert world.cache.evict(ref) and not world.cache.evict(ref)


def test_the_same_bytes_of_two_tenants_are_two_entries_and_one_file(build):
    world = build(device=4)
    (mine,), (theirs,) = world.publish("a", 1), world.publish("a", 1, tenant="u")
    assert mine.digest == theirs.digest
    world.cache.acquire([mine], WAIT).release()
    assert world.cache.tier(theirs) == "disk" and world.cache.try_acquire([theirs]) is None
    world.cache.acquire([theirs], WAIT).release()
    assert world.cache.used["device"] == 2 * UNIT and world.registry.fetched[mine.digest] == 1
    world.cache.retire(mine)
    world.settle()
    assert entry(world, mine) is None and entry(world, theirs).tier == "device"
    assert theirs.digest in world.cache._books.disk


def test_more_than_a_tier_holds_is_refused_at_once_with_the_numbers(build):
    world = build(device=4, host=6)
    a, b, large = *world.publish("ab", 3), *world.publish("l", 5)
    (words,) = world.publish("e", 7, embedding=True)
    for refs in ([large], [words]):
        with pytest.raises(OutOfRoom, match="bytes in the"):
            world.cache.acquire(refs, WAIT)
    for ref in (a, b):
        world.cache.acquire([ref], WAIT).release()
    with pytest.raises(OutOfRoom, match=f"t:a@1 \\+ t:b@1: {6 * UNIT} bytes in the device tier of {4 * UNIT}"):
        world.cache.try_acquire([a, b])
    assert isinstance(world.cache.failure(large), OutOfRoom) and world.cache.failure(a) is None
    before = world.cache.counters()
    world.cache.prefetch([large])
    assert world.cache.counters() == before, "nothing is loaded in vain"


def test_a_load_waits_for_a_lease_to_end_and_others_pass_it(build):
    world = build(device=4, hold=1e6)  # the end of the lease wakes the loader, not a timeout
    held, waiting, small = *world.publish("hw", 3), *world.publish("s", 1)
    lease = world.cache.acquire([held], WAIT)
    world.cache.prefetch([waiting])
    with world.cache.acquire([small], WAIT) as other:
        assert world.right(other, small) and world.right(lease, held)
    world.settle()
    assert not world.cache.ready([waiting]) and world.cache.failure(waiting) is None
    lease.release()
    with world.cache.acquire([waiting], WAIT) as lease:
        assert world.right(lease, waiting)


def test_waiting_has_an_end(build):
    world = build(device=4)
    a, b = world.publish("ab", 4)
    with world.cache.acquire([a], WAIT), pytest.raises(TimeoutError, match="t:b@1 not resident"):
        world.cache.acquire([b], 0.01)
    world.until(lambda: world.cache.ready([b]))


def test_two_sets_that_only_fit_alone_take_turns(build):
    world = build(device=6)
    left, right = world.publish("ab", 3), world.publish("cd", 3)
    faults = []

    def client(refs):
        for _ in range(15):
            with world.cache.acquire(refs, WAIT) as lease:
                faults.extend(ref for ref in refs if not world.right(lease, ref))

    clients = [threading.Thread(target=client, args=(refs,)) for refs in (left, right, left, right)]
    for thread in clients:
        thread.start()
    end = time.monotonic() + WAIT
    # Time goes on: what was loaded for a client that was served meanwhile is let go when its protection ends.
    while any(thread.is_alive() for thread in clients) and time.monotonic() < end:
        world.tick(0.1)
        time.sleep(0.01)
    for thread in clients:
        thread.join(WAIT)
        assert not thread.is_alive(), "a set starves"
    assert faults == []


def test_a_set_is_not_starved_by_hits_that_never_pause(build):
    world = build(device=4)
    a, b = world.publish("ab", 3)
    lease = world.cache.acquire([a], WAIT)
    world.cache.prefetch([b])
    world.settle()
    assert world.cache.try_acquire([a]) is None, "its room is promised: no new lease"
    lease.release()
    world.until(lambda: world.cache.ready([b]))
    world.cache.prefetch([a])
    world.settle()
    assert world.cache.try_acquire([a]) is None and world.cache.ready([b]), "kept for whoever asked"
    world.tick(2.0)
    world.until(lambda: world.cache.ready([a]))


def test_a_pin_stays_and_counts_against_the_others(build):
    world = build(device=4)
    pinned, small, large = *world.publish("ps", 2), *world.publish("l", 3)
    world.cache.pin(pinned)
    assert entry(world, pinned).pinned and not world.cache.evict(pinned)
    for ref in (small, large):
        if ref is large:
            with pytest.raises(OutOfRoom, match=f"{3 * UNIT} bytes .* of {4 * UNIT}, of which {2 * UNIT} are pinned"):
                world.cache.pin(ref)
        else:
            world.cache.acquire([ref], WAIT).release()
    assert world.cache.ready([pinned])
    world.cache.unpin(pinned)
    world.cache.pin(large)
    assert not world.cache.ready([pinned])


def test_a_retired_entry_leaves_every_tier_with_its_last_lease(build):
    world = build(device=4)
    (ref,) = world.publish("a", 2)
    world.cache.pin(ref)
    first, second = world.cache.try_acquire([ref]), world.cache.try_acquire([ref])
    world.cache.retire(ref)
    first.release()
    assert world.right(second, ref) and entry(world, ref).tier == "device"
    second.release()
    assert entry(world, ref) is None and world.cache.used["device"] == world.cache.used["host"] == 0
    world.settle()
    world.until(lambda: ref.digest not in world.cache._books.disk)
    assert not world.cache._books.disk.path(ref.digest).exists()


def test_bytes_that_come_back_and_are_pinned_while_the_old_ones_are_in_use_stay(build):
    world = build(device=4)
    again, other = world.publish("ab", 2)
    lease = world.cache.acquire([again], WAIT)  # a batch runs
    world.cache.retire(again)  # a delete
    world.cache.pin(again, WAIT)  # the same bytes were published and pinned
    lease.release()
    world.cache.acquire([other], WAIT).release()
    assert entry(world, again).pinned and world.cache.ready([again])
    assert world.cache.alive


def test_a_pin_that_ends_after_a_retirement_breaks_nothing(build):
    world = build(device=4)
    slow, other = world.publish("ab", 2)
    entered, go = world.registry.gate(slow)
    pinning = threading.Thread(target=lambda: world.cache.pin(slow, WAIT))
    pinning.start()
    assert entered.wait(WAIT)
    world.cache.retire(slow)
    go.set()
    pinning.join(WAIT)
    world.cache.acquire([other], WAIT).release()
    assert world.cache.alive and entry(world, slow).pinned
    world.cache.retire(slow)
    assert entry(world, slow) is None


def test_retiring_what_was_never_here_is_harmless(build):
    world = build(device=4)
    world.cache.retire(AdapterRef("t", "x", 1, "sha256:" + "0" * 64))
    world.settle()


def test_budgets_use_and_counters_tell_what_happened(build):
    world = build(device=2, host=10)
    a, b = world.publish("ab", 2)
    for ref in (a, b):
        world.cache.acquire([ref], WAIT).release()
    assert world.cache.budgets == {"device": 2 * UNIT, "host": 10 * UNIT, "disk": 1_000_000}
    assert world.cache.used["device"] == 2 * UNIT and world.cache.used["host"] == 4 * UNIT
    flat = world.cache.counters().flat()
    assert (flat["misses"], flat["loads"], flat["evictions_device"], flat["evictions_host"]) == (2, 2, 1, 0)
    assert flat["bytes_loaded_disk"] == world.cache.used["disk"]
    assert world.cache.tier(a) == "host" and entry(world, a).nbytes == 2 * UNIT


def test_check_sees_a_lease_that_nobody_holds(build):
    world = build(device=4)
    (ref,) = world.publish("a", 1)
    lease = world.cache.acquire([ref], WAIT)
    world.cache._leases[Lease({}, {}, lambda _: None)] = frozenset((ref.key,))
    assert any("other leases" in fault for fault in world.cache.check())
    world.cache._leases.popitem()
    lease.release()


def test_under_churn_every_lease_has_its_own_weights(build):
    """Room for a tenth: 40 adapters of mixed sizes, embeddings, stacks, retirements, from four threads."""
    world = build(device=14, host=30, disk=200)
    refs = [world.registry.publish(f"x{i}", i % 5) for i in range(40)]
    refs += [world.registry.publish(f"e{i}", 3, embedding=True) for i in range(6)]
    faults = []

    def client(seed):
        chance = random.Random(seed)
        try:
            for _ in range(60):
                wanted = chance.sample(refs, chance.randint(1, 3))
                with world.cache.acquire(wanted, WAIT) as lease:
                    adapters = [ref for ref in wanted if ref.name.startswith("x")]
                    faults.extend(ref for ref in adapters if not world.right(lease, ref))
                    if chance.random() < 0.1:
                        world.cache.retire(wanted[0])
                    if chance.random() < 0.1:
                        world.cache.evict(chance.choice(refs))
        except Exception as error:
            faults.append(error)

    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in clients:
        thread.start()
    while any(thread.is_alive() for thread in clients):
        assert world.cache.check() == ()
        clients[0].join(0.02)
        clients = clients[1:] + clients[:1]
    assert faults == []
    assert all(count > 0 for count in world.cache.counters().evictions.values())
    assert all(held.leases == 0 for held in world.cache.residency())
