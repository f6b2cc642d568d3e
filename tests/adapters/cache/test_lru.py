"""The books of a tier never lose a byte, and never offer what is in use."""

import subprocess
import sys

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.cache.lru import Lru
from adapters.errors import OutOfRoom


def filled(budget=100, **sizes):
    lru = Lru(budget)
    for key, nbytes in sizes.items():
        lru.add(key, nbytes)
    return lru


def test_room_names_the_longest_unused_first_and_no_more_than_needed():
    lru = filled(a=40, b=30, c=30)
    assert lru.room(0) == ()
    assert lru.room(30) == ("a",)
    assert lru.room(41) == ("a", "b")


def test_leasing_and_touching_make_young():
    lru = filled(a=40, b=30, c=30)
    lru.lease(["a"])
    lru.release(["a"])
    lru.touch("b")
    assert list(lru.victims()) == ["c", "a", "b"]


def test_leased_pinned_and_spared_keys_are_no_victims():
    lru = filled(a=10, b=10, c=10, d=10)
    lru.lease(["a"])
    lru.pin("b")
    assert list(lru.victims(spare={"c"})) == ["d"]
    assert list(lru.leased()) == ["a"]
    assert lru.room(81, spare={"c"}) is None


def test_a_lease_is_all_or_nothing():
    lru = filled(a=10)
    assert not lru.lease(["a", "absent"])
    assert lru.leases("a") == 0


def test_leases_count():
    lru = filled(a=10)
    assert lru.lease(["a"]) and lru.lease(["a"])
    lru.release(["a"])
    assert list(lru.victims()) == []
    lru.release(["a"])
    assert list(lru.victims()) == ["a"]


def test_add_refuses_what_is_not_free_with_the_numbers():
    lru = filled(budget=50, a=40)
    with pytest.raises(OutOfRoom, match="11 bytes wanted, 40 of 50"):
        lru.add("b", 11)
    assert "b" not in lru and lru.check() == ()


@pytest.mark.parametrize("broken", ["used", "bytes_in", "bytes_out"])
def test_check_sees_lost_bytes(broken):
    lru = filled(a=10)
    setattr(lru, broken, getattr(lru, broken) + 1)
    assert lru.check()


def test_removing_a_leased_or_pinned_key_is_a_bug():
    lru = filled(a=1, b=1)
    lru.lease(["a"])
    lru.pin("b")
    for key in "ab":
        with pytest.raises(AssertionError):
            lru.remove(key)


def test_pinned_bytes_are_counted_by_owner_and_what_is_pinned_is_not_copied():
    lru = Lru(100, owner=lambda key: key[0])
    for key in ("a1", "a2", "b1", "c0"):
        lru.add(key, 10 * int(key[1]))
    pinned = lru.pinned
    for key in ("a1", "a1", "a2", "b1", "c0"):
        lru.pin(key)
    assert pinned == {"a1", "a2", "b1", "c0"} and lru.check() == ()
    assert (lru.pinned_of("a"), lru.pinned_of("b"), lru.pinned_of("c"), lru.pinned_bytes) == (30, 10, 0, 40)
    for key in ("a1", "a1", "x", "c0"):
        lru.unpin(key)
    assert (lru.pinned_of("a"), lru.pinned_bytes) == (20, 30) and lru.check() == ()
    lru.pinned_bytes += 1
    assert any("pinned bytes" in fault for fault in lru.check())


def test_the_books_need_no_torch():
    code = "import adapters.cache.lru, adapters.cache.disk, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Machine(RuleBasedStateMachine):
    """A model of plain dictionaries beside the real thing."""

    keys = st.sampled_from("abcdefgh")

    def __init__(self):
        super().__init__()
        self.lru = Lru(100)
        self.sizes = {}
        self.order = []
        self.leases = []
        self.pins = set()

    def free(self, key):
        return key not in self.pins and not any(key in keys for keys in self.leases)

    @rule(key=keys, nbytes=st.integers(0, 60))
    def add_after_making_room(self, key, nbytes):
        if key in self.sizes:
            return
        gone = self.lru.room(nbytes)
        expected, free = [], 100 - sum(self.sizes.values())
        for old in self.order:
            if free < nbytes and self.free(old):
                expected.append(old)
                free += self.sizes[old]
        assert gone == (tuple(expected) if free >= nbytes else None)
        if gone is None:
            return
        for old in gone:
            assert self.lru.remove(old) == self.sizes.pop(old)
            self.order.remove(old)
        self.lru.add(key, nbytes)
        self.sizes[key] = nbytes
        self.order.append(key)

    @rule(keys=st.sets(keys, min_size=1, max_size=3))
    def lease(self, keys):
        keys = sorted(keys)
        assert self.lru.lease(keys) == (set(keys) <= self.sizes.keys())
        if set(keys) <= self.sizes.keys():
            self.leases.append(keys)
            self.order = [key for key in self.order if key not in keys] + keys

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data):
        self.lru.release(self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1))))

    @rule(key=keys)
    def pin(self, key):
        if key in self.sizes:
            self.lru.pin(key)
            self.pins.add(key)

    @rule(key=keys)
    def unpin(self, key):
        self.lru.unpin(key)
        self.pins.discard(key)

    @invariant()
    def sound(self):
        assert self.lru.check() == ()
        assert list(self.lru) == self.order
        assert self.lru.used == sum(self.sizes.values())
        assert self.lru.pinned == self.pins and self.lru.pinned_bytes == sum(self.sizes[key] for key in self.pins)
        assert list(self.lru.victims()) == [key for key in self.order if self.free(key)]
        for key in self.order:
            assert self.lru.leases(key) == sum(key in keys for keys in self.leases)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
