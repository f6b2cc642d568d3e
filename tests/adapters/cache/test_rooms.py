"""Floors are cut to what there is, ceilings are told apart from what is free."""

import subprocess
import sys

import pytest

from adapters.cache.lru import Lru
from adapters.cache.rooms import Room, Rooms, tenant_of


def rooms_of(budget=100, loose=50, **held):
    lru = Lru(budget, tenant_of)
    for name, nbytes in held.items():
        lru.add((name[0], name), nbytes)
    return Rooms(lru, loose)


def test_a_tenant_that_is_not_named_has_neither_floor_nor_ceiling():
    rooms = rooms_of()
    rooms.share({"a": Room(10, 20)})
    assert (rooms.floor("a"), rooms.ceiling("a")) == (10, 20)
    assert (rooms.floor("b"), rooms.ceiling("b")) == (0, None)


def test_floors_that_ask_for_too_much_are_all_cut_alike():
    rooms = rooms_of()
    rooms.share({"a": Room(75), "b": Room(25)})
    assert rooms.kept == 0.5
    assert (rooms.floor("a"), rooms.floor("b")) == (37, 12)


def test_pins_count_towards_their_tenants_floor_and_take_from_what_is_left():
    rooms = rooms_of(a1=20, b1=10)
    rooms.share({"a": Room(30), "b": Room(30)})
    rooms.lru.pin(("a", "a1"))
    rooms.settle()  # 30 are left beside the pin: 10 more for a, 30 for b
    assert rooms.kept == 0.75
    assert (rooms.floor("a"), rooms.floor("b")) == (27, 22)
    rooms.lru.unpin(("a", "a1"))
    rooms.settle()
    assert rooms.floor("a") == 25


def test_pins_may_take_what_is_not_loose():
    rooms = rooms_of(a1=20, b1=10)
    assert rooms.free_for_pins == 50
    rooms.lru.pin(("a", "a1"))
    assert rooms.free_for_pins == 30


@pytest.mark.parametrize(("needed", "possible"), [(20, True), (21, False)])
def test_a_request_that_can_not_fit_under_the_ceiling_is_told_the_numbers(needed, possible):
    rooms = rooms_of(a1=10)
    rooms.lru.pin(("a", "a1"))
    rooms.share({"a": Room(0, 30)})
    error = rooms.over({("a", "x"): needed - 5, ("a", "y"): 5, ("b", "z"): 90})
    assert (error is None) == possible
    assert possible or "21 bytes are needed at once and 10 more are pinned: the tenant may take 30" in str(error)


def test_what_others_keep_is_their_pins_and_as_many_entries_as_reach_their_floors():
    rooms = rooms_of(a1=20, a2=15, b1=10, c1=5, c2=10)
    rooms.lru.pin(("c", "c1"))
    rooms.share({"a": Room(12), "d": Room(10)})
    assert rooms.over({("x", "x1"): 80}) is None  # a2 stays for a, c1 is pinned
    assert "81 bytes are needed at once, and 20 are kept" in str(rooms.over({("x", "x1"): 81}))
    assert rooms.over({("a", "a3"): 95}) is None
    assert "5 are kept" in str(rooms.over({("a", "a3"): 96}))


def test_an_unpinned_entry_makes_room_for_floors_at_once():
    rooms = rooms_of(a1=30)
    rooms.lru.pin(("a", "a1"))
    rooms.share({"b": Room(40)})
    assert rooms.floor("b") == 20
    rooms.unpin(("a", "a1"))
    rooms.unpin(("b", "unknown"))
    assert rooms.floor("b") == 40 and not rooms.lru.pinned


def test_check_sees_a_tenant_over_its_ceiling_but_forgives_one_that_was_lowered():
    rooms = rooms_of(a1=30)
    rooms.share({"a": Room(0, 20)})
    assert rooms.check() == ()
    rooms.lru.remove(("a", "a1"))
    rooms.share({"a": Room(0, 20)})
    rooms.lru.add(("a", "a2"), 21)
    assert rooms.check() == ("a holds 21 bytes over a ceiling of 20",)


def test_a_room_on_another_tier_is_the_floor_in_proportion():
    assert Room(10, 20).scaled(4.0) == Room(40, None)


def test_rooms_need_no_torch():
    code = "import adapters.cache.rooms, adapters.cache.turns, adapters.cache.victims, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
