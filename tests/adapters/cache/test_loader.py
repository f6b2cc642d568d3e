"""One thread, one job at a time, each entry once, and no failure but its own."""

import threading
import weakref

import pytest

from adapters.errors import LoadFailed, Misfit
from tests.adapters.cache.fakes import UNIT, WAIT


def test_fifty_asks_are_one_load(build):
    world = build(device=10)
    (ref,) = world.publish("a", 2)
    entered, go = world.registry.gate(ref)
    asking = [threading.Thread(target=lambda: world.cache.acquire([ref], WAIT).release()) for _ in range(50)]
    for thread in asking:
        thread.start()
    assert entered.wait(WAIT)
    world.cache.prefetch([ref])
    go.set()
    for thread in asking:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert world.registry.loaded["a"] == 1 and world.registry.fetched[ref.digest] == 1
    counters = world.cache.counters()
    assert (counters.loads, counters.misses, counters.hits) == (1, 1, 49)


def test_loads_come_in_the_order_of_the_asks(build):
    world = build(device=10)
    first, *others = world.publish("dacb", 1)
    entered, go = world.registry.gate(first)
    order = []
    load = world.cache._loader._load
    world.cache._loader._load = lambda ref, path: (order.append(ref.name), load(ref, path))[1]
    world.cache.prefetch([first])
    assert entered.wait(WAIT)
    for ref in others:
        world.cache.prefetch([ref])
    go.set()
    world.cache.acquire([others[-1]], WAIT).release()
    assert order == ["d", "a", "c", "b"]


def test_the_batch_thread_is_served_while_a_load_hangs(build):
    world = build(device=10)
    here, slow = world.publish("hs", 1)
    world.cache.acquire([here], WAIT).release()
    entered, go = world.registry.gate(slow)
    world.cache.prefetch([slow])
    assert entered.wait(WAIT)
    assert world.cache.try_acquire([slow]) is None and world.cache.failure(slow) is None
    with world.cache.try_acquire([here]) as lease:
        assert world.right(lease, here)
    world.cache.residency()
    go.set()
    world.until(lambda: world.cache.ready([slow]))


def test_nothing_is_evicted_for_a_load_that_fails(build):
    world = build(device=4)
    good, bad = world.publish("gb", 4)
    world.cache.acquire([good], WAIT).release()
    world.registry.broken["b"] = ValueError("not finite")
    with pytest.raises(LoadFailed, match="not finite"):
        world.cache.acquire([bad], WAIT)
    assert world.cache.ready([good]) and world.cache.counters().evictions["device"] == 0


@pytest.mark.parametrize("error", [Misfit(["no layer 12"]), MemoryError(), OSError("disk"), RecursionError("deep")])
def test_whatever_a_load_raises_concerns_that_entry_only(build, error):
    world = build(device=4)
    bad, good = world.publish("bg", 1)
    world.registry.broken["b"] = error
    with pytest.raises(LoadFailed) as caught:
        world.cache.acquire([bad], WAIT)
    assert caught.value.__cause__ is error and str(bad) in str(caught.value)
    assert type(error).__name__ in str(caught.value) or str(error) in str(caught.value)
    world.cache.acquire([good], WAIT).release()


def test_a_failed_copy_gives_its_slot_back(build, monkeypatch):
    world = build(device=4)
    bad, good = world.publish("bg", 4)
    write = world.cache._books.device.write

    def fail(key, adapter):
        if key == bad.key:
            raise RuntimeError("device lost")
        return write(key, adapter)

    monkeypatch.setattr(world.cache._books.device, "write", fail)
    with pytest.raises(LoadFailed, match="device lost"):
        world.cache.acquire([bad], WAIT)
    assert world.cache.used["device"] == 0
    world.cache.acquire([good], WAIT).release()


def test_a_load_that_failed_is_not_tried_again_at_once(build):
    world = build(device=4)
    (ref,) = world.publish("a", 1)
    world.registry.broken["a"] = ValueError("torn")
    for _ in range(1000):
        with pytest.raises(LoadFailed):
            world.cache.acquire([ref], WAIT)
    assert world.registry.loaded["a"] == 1 and world.cache.counters().load_failures == 1
    assert isinstance(world.cache.failure(ref), LoadFailed) and world.cache.try_acquire([ref]) is None
    del world.registry.broken["a"]
    world.tick(3.0)
    assert world.cache.failure(ref) is None
    world.cache.acquire([ref], WAIT).release()


def test_a_failed_load_keeps_nothing_of_its_package_in_memory(build):
    class Weights:
        pass

    world = build(device=4, threaded=False)
    packages = []

    def load(ref, path):
        package = Weights()
        packages.append(weakref.ref(package))
        try:
            raise KeyError("wrong")
        except KeyError as error:
            raise ValueError("does not fit") from error

    world.cache._loader._load = load
    (ref,) = world.publish("a", 1)
    world.cache.prefetch([ref])
    world.work()
    assert "does not fit" in str(world.cache.failure(ref))
    assert [package() for package in packages] == [None]


def test_an_error_that_many_wait_for_does_not_collect_their_frames(build):
    world = build(device=4)
    (ref,) = world.publish("a", 1)
    world.registry.broken["a"] = ValueError("torn")
    for _ in range(3):
        with pytest.raises(LoadFailed) as caught:
            world.cache.acquire([ref], WAIT)
    frames = 0
    for entry in caught.traceback:
        frames += entry.name == "acquire"
    assert frames == 1


def test_whoever_waits_is_told_when_an_entry_takes_leases_again(build):
    told = []
    world = build(device=4, threaded=False, on_change=lambda: told.append(world.cache.ready([held])))
    held, large = *world.publish("a", 3), *world.publish("b", 4)
    world.cache.prefetch([held])
    world.work()
    lease = world.cache.try_acquire([held])
    world.cache.prefetch([large])
    world.work()
    assert not world.cache.ready([held]), "promised to the second"
    told.clear()
    world.clock.now += 7.0  # nobody asks for the second any more
    world.work()
    assert told == [True]
    lease.release()


def test_a_damaged_blob_is_a_failed_load(build):
    world = build(device=4)
    (ref,) = world.publish("a", 1)
    world.registry.blob(ref.digest).write_text("adapter 666 1")
    with pytest.raises(LoadFailed, match="other bytes"):
        world.cache.acquire([ref], WAIT)
    assert world.registry.loaded["a"] == 0


def test_an_evicted_adapter_comes_back_from_host_without_a_load(build):
    world = build(device=4)
    a, b = world.publish("ab", 4)
    for ref in (a, b, a):
        with world.cache.acquire([ref], WAIT) as lease:
            assert world.right(lease, ref)
    assert world.registry.loaded == {"a": 1, "b": 1}
    assert world.cache.counters().bytes_loaded["device"] == 12 * UNIT


def test_a_host_tier_too_small_for_a_set_does_not_stop_it(build):
    world = build(device=10, host=3)
    refs = world.publish("abc", 3)
    for _ in range(2):
        with world.cache.acquire(refs, WAIT) as lease:
            assert all(world.right(lease, ref) for ref in refs)
        for ref in refs:
            world.cache.evict(ref)


def test_every_end_of_a_load_is_told_without_the_lock(build):
    told = threading.Semaphore(0)
    world = build(device=4, on_change=lambda: (world.cache.residency(), told.release()))
    good, bad = world.publish("gb", 1)
    world.registry.broken["b"] = ValueError("torn")
    for ref in (good, bad):
        world.cache.prefetch([ref])
        assert told.acquire(timeout=WAIT)


def test_an_evicted_slot_is_wiped_though_nothing_else_is_loaded(build):
    world = build(device=4)
    (ref,) = world.publish("a", 4)
    world.cache.acquire([ref], WAIT).release()
    assert world.cache.evict(ref)
    device = world.cache._books.device
    world.until(lambda: not device.dirty and not device.arena.any())


def test_closing_ends_the_thread_and_refuses_new_loads(build):
    world = build(device=4)
    a, b = world.publish("ab", 1)
    lease = world.cache.acquire([a], WAIT)
    world.cache.close()
    assert not world.cache._loader.alive
    with pytest.raises(LoadFailed, match="closed"):
        world.cache.acquire([b], WAIT)
    lease.release()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(13, "Permission denied", "/srv/data/cache/0/ab"), "Permission denied"),
        (OSError("/srv/data is gone"), "OSError"),
        (Misfit(["too wide"]), "too wide"),
    ],
)
def test_what_a_tenant_reads_of_a_failed_load_names_no_place_of_the_machine(build, error, told):
    world = build(device=10)
    (ref,) = world.publish("a", 2)

    def fail(ref, path):
        raise error

    world.cache._loader._load = fail
    with pytest.raises(LoadFailed, match=told) as caught:
        world.cache.acquire([ref], WAIT)
    assert "/srv" not in str(caught.value)
