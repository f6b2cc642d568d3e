"""Tenants in one cache: floors, ceilings, pins and turns, together and in any order."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adapters.cache.admission import Size
from adapters.cache.rooms import Room
from adapters.errors import LoadFailed, OutOfRoom
from tests.adapters.cache.fakes import UNIT, World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, device=20, host=100, threaded=False, loose=0.5)
    yield made
    assert made.cache.check() == ()
    made.cache.close()


def use(world, *refs, tenant=None):
    """Bring a set in and lease it once; whether that was possible."""
    world.cache.prefetch(refs, tenant)
    world.work()
    lease = world.cache.try_acquire(refs)
    if lease is not None:
        lease.release()
    return lease is not None


def held(world):
    return {tenant: nbytes // UNIT for tenant, nbytes in world.cache.held.items()}


def test_a_flood_of_one_tenant_leaves_anothers_floor_alone(world):
    world.cache.share({"b": Room(6 * UNIT)})
    mine = world.publish("xyz", 2, tenant="b")
    for ref in mine:
        assert use(world, ref)
    for i in range(60):
        assert use(world, world.registry.publish(f"a{i}", 2, tenant="a"))
    assert held(world) == {"a": 14, "b": 6}
    assert world.cache.ready(mine)


def test_what_a_floor_keeps_moves_where_it_splits_the_room(world):
    world.cache.share({"b": Room(8 * UNIT)})
    mine, others = [], []
    for i in range(10):  # b, a, b, a, ... over the whole arena
        others.append(world.registry.publish(f"a{i}", 1, tenant="a"))
        mine.append(world.registry.publish(f"b{i}", 1, tenant="b"))
        assert use(world, others[-1]) and use(world, mine[-1])
    large = world.registry.publish("large", 9, tenant="c")
    assert use(world, large)
    world.work()
    assert held(world)["b"] == 8 and world.cache.ready([large])
    assert sum(world.cache.ready([ref]) for ref in mine) == 8, "what was moved is back"
    for ref in mine:
        if world.cache.ready([ref]):
            with world.cache.try_acquire([ref]) as lease:
                assert world.right(lease, ref)


def test_what_the_floors_of_others_leave_no_bytes_for_is_refused_with_the_numbers(world):
    world.cache.share({"b": Room(8 * UNIT)})
    for i in range(4):
        assert use(world, world.registry.publish(f"b{i}", 3, tenant="b"))
    large = world.registry.publish("large", 12, tenant="c")
    with pytest.raises(OutOfRoom, match=f"{12 * UNIT} bytes are needed at once, and {9 * UNIT} are kept"):
        use(world, large)
    assert use(world, world.registry.publish("fits", 11, tenant="c"))


def test_a_want_that_nobody_asks_for_any_more_leaves_the_line(world):
    first, second = (world.registry.publish(name, 15, tenant=name) for name in "ab")
    world.cache.prefetch([first])
    world.work()
    lease = world.cache.try_acquire([first])
    world.cache.prefetch([second])
    world.work()
    assert world.cache.try_acquire([first]) is None
    world.clock.now += 4.0
    world.cache.prefetch([second])
    world.clock.now += 4.0
    world.work()
    assert world.cache._books.admission.wanted(second.key), "it was asked for again a moment ago"
    world.clock.now += 2.0
    world.work()
    assert not world.cache._books.admission.wanted(second.key)
    world.cache.try_acquire([first]).release()
    lease.release()


def test_what_a_tenant_has_above_its_floor_can_be_taken(world):
    world.cache.share({"b": Room(4 * UNIT)})
    for i in range(10):
        assert use(world, world.registry.publish(f"b{i}", 2, tenant="b"))
    for i in range(20):
        assert use(world, world.registry.publish(f"a{i}", 2, tenant="a"))
    assert held(world) == {"a": 16, "b": 4}


def test_a_tenants_own_loads_stay_under_its_ceiling_though_there_is_room(world):
    world.cache.share({"a": Room(0, 5 * UNIT)})
    for i in range(30):
        assert use(world, world.registry.publish(f"a{i}", 2, tenant="a"))
        assert held(world)["a"] <= 5
    assert world.cache.used["device"] == 4 * UNIT


def test_a_request_over_its_tenants_ceiling_is_refused_with_the_numbers(world):
    world.cache.share({"a": Room(0, 5 * UNIT)})
    large, *small = [world.registry.publish(name, units, tenant="a") for name, units in (("l", 6), ("s", 3), ("t", 3))]
    for refs in ((large,), small):
        with pytest.raises(OutOfRoom, match=f"in the device tier, {6 * UNIT} bytes .* may take {5 * UNIT}"):
            use(world, *refs)
    assert use(world, small[0])


def test_a_tenant_that_waits_for_its_own_ceiling_holds_nobody_up(world):
    world.cache.share({"a": Room(0, 2 * UNIT)})
    first, *others = [world.registry.publish(f"a{i}", 2, tenant="a") for i in range(40)]
    world.cache.prefetch([first])
    world.work()
    lease = world.cache.try_acquire([first])
    for ref in others:
        world.cache.prefetch([ref])
    world.work()
    assert use(world, world.registry.publish("b", 4, tenant="b"))
    assert world.cache.try_acquire([first]) is None, "its own next ones are promised this room"
    lease.release()
    world.work()
    assert world.cache.ready([others[0]])


def test_nobody_protects_more_than_half_of_the_device_ahead_of_its_leases(world):
    for i in range(20):
        world.cache.prefetch([world.registry.publish(f"a{i}", 3, tenant="a")])
    world.work()
    assert len(world.cache._books.admission.protected) == 3  # 9 of 20 units; the rest waits for a lease
    assert use(world, world.registry.publish("b", 9, tenant="b"))


def test_a_neighbour_with_hundreds_of_cold_ones_costs_one_load_of_waiting(world):
    for i in range(200):
        world.cache.prefetch([world.registry.publish(f"a{i}", 1, tenant="a")])
    world.cache.turn()
    mine = world.registry.publish("b", 1, tenant="b")
    world.cache.prefetch([mine])
    turns = 0
    while not world.cache.ready([mine]):
        world.cache.turn()
        turns += 1
    assert turns <= 2


def test_public_packages_are_counted_for_public_whoever_asked(world):
    shared = world.registry.publish("p", 2, tenant="public")
    assert use(world, shared, tenant="a") and use(world, shared, tenant="b")
    assert held(world) == {"public": 2}
    assert world.registry.loaded["p"] == 1


def test_pins_may_take_half_and_are_refused_with_the_numbers(world):
    refs = [world.registry.publish(f"p{i}", 4, tenant="a") for i in range(3)]
    for ref in refs:
        use(world, ref)
    for ref in refs[:2]:
        world.cache._books.pin(ref)
    with pytest.raises(OutOfRoom, match=f"{4 * UNIT} bytes to pin, {2 * UNIT} of {20 * UNIT} are free for pins"):
        world.cache._books.pin(refs[2])
    assert world.cache.room(refs) == (4 * UNIT, 2 * UNIT)
    assert use(world, world.registry.publish("big", 10, tenant="b")), "a batch can still be brought in"


def scattered(world, every):
    """The device full of units, of which each so many-th is pinned."""
    small = [world.registry.publish(f"s{i}", 1, tenant="a") for i in range(20)]
    for ref in small:
        assert use(world, ref)
    for ref in small[every - 1 :: every]:
        world.cache._books.pin(ref)
    return small[every - 1 :: every]


def test_what_others_pinned_here_and_there_does_not_keep_out_what_fits_into_the_loose_part(world):
    pinned = scattered(world, 4)
    loads = dict(world.registry.loaded)
    large = world.registry.publish("large", 10, tenant="b")
    world.cache.prefetch([large])
    world.work()
    assert world.cache.ready([large]) and world.cache.ready(pinned)
    for ref in pinned:
        with world.cache.try_acquire([ref]) as lease:
            assert world.right(lease, ref)
    assert {ref for held in world.cache.residency() if held.pinned for ref in [held.ref]} == set(pinned)
    assert loads == {name: n for name, n in world.registry.loaded.items() if name != "large"}, "no load, only copies"


def test_pins_move_though_neither_the_host_nor_the_store_has_them_any_more(tmp_path):
    world = World(tmp_path, device=20, host=2, threaded=False, loose=0.5)
    pinned = scattered(world, 10)
    world.registry.broken |= {ref.name: LoadFailed("the store is gone") for ref in pinned}
    assert use(world, world.registry.publish("large", 12, tenant="b"))
    assert world.cache.ready(pinned) and world.cache.check() == ()
    world.cache.close()


def test_moved_pins_are_back_before_anything_is_loaded(world):
    pinned, here = scattered(world, 10), []
    slow, large = world.publish("s", 1, tenant="0"), world.publish("l", 12, tenant="b")
    load = world.cache._loader._load
    world.cache._loader._load = lambda ref, path: here.append(world.cache.ready(pinned)) or load(ref, path)
    world.cache.prefetch(slow)
    world.cache.prefetch(large)
    world.cache._books.ledger.fact(*large).size = Size("device", 12 * UNIT)  # it was here once
    world.work()
    assert here == [True, True] and world.cache.ready(large)


def test_a_pin_that_is_always_in_use_moves_at_the_end_of_a_lease(world):
    pinned = scattered(world, 10)
    lease = world.cache.try_acquire(pinned)
    large = world.registry.publish("large", 12, tenant="b")
    world.cache.prefetch([large])
    world.work()
    assert not world.cache.ready([large]) and world.cache.check() == ()
    assert world.cache.try_acquire(pinned) is None, "one of them takes no new lease"
    for ref in pinned:
        assert ref in lease.resident and world.right(lease, ref)
    lease.release()
    world.work()
    assert world.cache.ready([large]) and world.cache.ready(pinned)


def test_a_pin_whose_new_slot_can_not_be_written_fails_alone(world, monkeypatch):
    pinned = scattered(world, 10)
    write, lost = world.cache._books.device.write, []

    def fail(key, adapter):
        if key in {ref.key for ref in pinned}:
            lost.append(key)
            raise RuntimeError("device lost")
        return write(key, adapter)

    monkeypatch.setattr(world.cache._books.device, "write", fail)
    assert use(world, world.registry.publish("large", 12, tenant="b"))
    world.work()
    assert lost and world.cache.check() == ()
    assert {held.ref.key for held in world.cache.residency() if held.pinned} == {ref.key for ref in pinned} - set(lost)


def test_more_kept_entries_than_are_tried_one_by_one_move_too(tmp_path):
    world = World(tmp_path, device=120, host=300, threaded=False, loose=0.5)
    world.cache.share({"b": Room(40 * UNIT)})
    for i in range(40):  # b keeps every third unit
        for ref in (*(world.registry.publish(f"a{i}{j}", 1, tenant="a") for j in range(2)),):
            assert use(world, ref)
        assert use(world, world.registry.publish(f"b{i}", 1, tenant="b"))
    assert use(world, world.registry.publish("large", 60, tenant="c"))
    world.work()
    assert held(world)["b"] == 40 and world.cache.check() == ()
    world.cache.close()


def test_room_tells_the_host_where_that_is_what_lacks(world):
    words = world.registry.publish("w", 60, tenant="a", embedding=True)
    task = world.registry.publish("t", 2, tenant="a")
    use(world, words)
    use(world, task)
    assert world.cache.room([task]) == (2 * UNIT, 10 * UNIT)
    assert world.cache.room([task, words]) == (60 * UNIT, 50 * UNIT)


def test_a_lowered_ceiling_has_what_is_free_leave_at_once(world):
    refs = [world.registry.publish(f"a{i}", 2, tenant="a") for i in range(6)]
    for ref in refs:
        use(world, ref)
    lease = world.cache.try_acquire(refs[:3])
    world.cache.share({"a": Room(0, 4 * UNIT)})
    assert held(world) == {"a": 6} and world.cache.check() == ()
    lease.release()
    assert use(world, world.registry.publish("new", 2, tenant="a"))
    assert held(world)["a"] <= 4


def test_floors_hold_on_the_host_in_proportion(world):
    world.cache.share({"b": Room(4 * UNIT)})
    mine = [world.registry.publish(f"b{i}", 2, tenant="b") for i in range(10)]
    for ref in mine:
        use(world, ref)
    for i in range(100):
        use(world, world.registry.publish(f"a{i}", 2, tenant="a"))
    lru = world.cache._books.host.lru
    assert lru.held("b") == 20 * UNIT  # 4 of 20 on the device are 20 of 100 here
    assert lru.used == 100 * UNIT


class Machine(RuleBasedStateMachine):
    """Random lives of three tenants: the books are sound, floors and ceilings hold, weights are right, nothing leaks."""

    tenants = st.sampled_from("abc")

    @initialize(loose=st.sampled_from([0.0, 0.5]))
    def begin(self, loose):
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name), device=16, host=24, disk=400, threaded=False, loose=loose)
        self.cache = self.world.cache
        self.refs = {
            tenant: [self.world.registry.publish(f"{tenant}{i}", 1 + i % 4, tenant=tenant) for i in range(6)]
            + [self.world.registry.publish(f"{tenant}e", 3, tenant=tenant, embedding=True)]
            for tenant in "abc"
        }
        self.leases, self.pins = [], set()
        self.rooms = {"a": Room(4 * UNIT, 8 * UNIT), "b": Room(3 * UNIT), "c": Room(0, 5 * UNIT)}
        self.cache.share(self.rooms)

    def pick(self, data, tenant, most=2):
        return data.draw(st.lists(st.sampled_from(self.refs[tenant]), min_size=1, max_size=most, unique=True))

    @rule(data=st.data(), tenant=tenants)
    def ask(self, data, tenant):
        self.cache.prefetch(self.pick(data, tenant), tenant)

    @rule(data=st.data(), tenant=tenants)
    def serve(self, data, tenant):
        refs = self.pick(data, tenant)
        self.cache.prefetch(refs, tenant)
        for _ in range(5):
            self.turn()
        try:
            lease = self.cache.try_acquire(refs)
        except OutOfRoom:
            return
        if lease is not None:
            lease.release()

    def turn(self):
        """One turn of the loader; what it took from others for a load left them what their floors keep."""
        books = self.cache._books
        lru, before = books.device.lru, {key for key in books.device.lru if books.device.get(key) is not None}
        before, floors = before - books.retired, {tenant: books.device.rooms.floor(tenant) for tenant in "abc"}
        known = set(lru)
        self.cache.turn()
        fresh = {tenant for tenant, _ in set(lru) - known}
        for tenant in {key[0] for key in before - set(lru)} - fresh:
            assert lru.held(tenant) >= floors[tenant], f"{tenant} lost what its floor keeps"

    @rule(turns=st.integers(1, 6))
    def load(self, turns):
        for _ in range(turns):
            self.turn()

    @rule(data=st.data(), tenant=tenants)
    def lease(self, data, tenant):
        try:
            lease = self.cache.try_acquire(self.pick(data, tenant))
        except OutOfRoom:
            return
        if lease is not None:
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data):
        self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))).release()

    @rule(data=st.data(), tenant=tenants)
    def pin(self, data, tenant):
        (ref,) = self.pick(data, tenant, 1)
        if self.cache.ready([ref]):
            try:
                self.cache._books.pin(ref)
            except OutOfRoom:
                return
            self.pins.add(ref)

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data):
        ref = data.draw(st.sampled_from(sorted(self.pins, key=str)))
        self.cache.unpin(ref)
        self.pins.discard(ref)

    @rule(data=st.data(), tenant=tenants)
    def leave(self, data, tenant):
        (ref,) = self.pick(data, tenant, 1)
        if data.draw(st.booleans()):
            self.cache.evict(ref)
        else:
            self.pins.discard(ref)
            self.cache.retire(ref)

    @rule(data=st.data(), tenant=tenants, error=st.sampled_from([LoadFailed("torn"), MemoryError(), None]))
    def break_or_mend(self, data, tenant, error):
        (ref,) = self.pick(data, tenant, 1)
        if error is None:
            self.world.registry.broken.pop(ref.name, None)
        else:
            self.world.registry.broken[ref.name] = error

    @rule(tenant=tenants, floor=st.integers(0, 10), ceiling=st.none() | st.integers(0, 16), weight=st.floats(0.5, 4.0))
    def share(self, tenant, floor, ceiling, weight):
        self.rooms[tenant] = Room(floor * UNIT, None if ceiling is None else ceiling * UNIT)
        self.cache.share(self.rooms, {tenant: weight})

    @rule(seconds=st.sampled_from([0.1, 3.0]))
    def wait(self, seconds):
        self.world.clock.now += seconds

    @invariant()
    def sound(self):
        assert self.cache.check() == ()
        for lease in self.leases:
            for ref in lease.resident:
                assert ref.name.endswith("e") or self.world.right(lease, ref)
        rooms = self.cache._books.device.rooms
        pinned = sum(self.cache._books.device.lru.nbytes(key) for key in self.cache._books.device.lru.pinned)
        kept = sum(max(rooms.floor(tenant), self.cache._books.device.lru.pinned_of(tenant)) for tenant in "abc")
        assert max(pinned, kept) <= self.cache.budgets["device"] - rooms.loose

    def teardown(self):
        for lease in self.leases:
            lease.release()
        for ref in self.pins:
            self.cache.unpin(ref)
        self.world.registry.broken.clear()
        self.cache.share({})
        for _ in range(4):
            self.world.clock.now += 4.0
            self.world.work()
        assert self.cache._books.admission.wants == {}
        for refs in self.refs.values():
            for ref in refs:
                assert use(self.world, ref), f"{ref} can not be served any more"
        for refs in self.refs.values():
            for ref in refs:
                self.cache.retire(ref)
        assert self.cache.used["device"] == self.cache.used["host"] == 0
        self.cache.close()
        self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, derandomize=True)
