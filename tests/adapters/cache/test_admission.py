"""The line before the tiers: all or nothing, first come first served, and nobody waits for ever."""

import random

import pytest

from adapters.cache.admission import OVERTAKES, Admission, Size, Want
from adapters.cache.device import DeviceTier
from adapters.cache.host import HostTier
from adapters.refs import AdapterRef
from tests.adapters.cache.fakes import UNIT, Clock, Embedding, adapter


class Line:
    """Admission before real tiers, with instant loads."""

    def __init__(self, device=10, host=10):
        self.clock = Clock()
        self.device, self.host = DeviceTier(device * UNIT), HostTier(host * UNIT)
        self.sizes = {}
        homes = {"device": self.device, "host": self.host}
        ref_of = lambda key: AdapterRef(key[0], key[1], 1, key[1])  # noqa: E731
        self.lifted = []
        self.line = Admission(homes, self.sizes.get, self.clock, hold=2.0, ref_of=ref_of, lift=self.lifted.append)

    def ask(self, home="device", **units):
        refs = [AdapterRef("t", name, 1, name) for name in units]
        for ref, count in zip(refs, units.values(), strict=True):
            self.sizes[ref.key] = Size(home, count * UNIT)
        want = Want(tuple(refs), {})
        self.line.ask(want)
        return want

    def load(self):
        self.line.admit()
        for key in [key for key in self.device.lru if self.device.get(key) is None]:
            self.device.publish(key, self.device.write(key, adapter(1.0, self.sizes[key].nbytes // UNIT)))
        for key in [key for key in self.host.lru if self.host.get(key) is None]:
            self.host.put(key, Embedding(self.sizes[key].nbytes))
        self.line.admit()

    def there(self, want):
        return all(self.device.get(key) or self.host.get(key) for key in want.keys)

    def lease(self, want):
        assert self.there(want) and not want.keys & self.line.condemned
        for key in want.keys:
            (self.device if key in self.device.lru else self.host).lru.lease([key])
        self.line.fulfil(want.keys)

    def release(self, want):
        for key in want.keys:
            (self.device if key in self.device.lru else self.host).lru.release([key])


def test_a_set_is_reserved_at_once_or_not_at_all():
    line = Line(device=10)
    held = line.ask(a=4)
    line.load()
    line.lease(held)
    waiting = line.ask(b=5, c=5)
    line.load()
    assert not waiting.admitted and len(line.device.lru) == 1
    line.release(held)
    line.load()
    assert line.there(waiting) and not line.there(held)


def test_a_set_is_admitted_over_two_tiers_or_in_none():
    line = Line(device=10, host=10)
    held = line.ask(home="host", e=8)
    line.load()
    line.lease(held)
    line.ask(home="host", f=8)
    both = Want((AdapterRef("t", "a", 1, "a"), AdapterRef("t", "f", 1, "f")), {})
    line.sizes["t", "a"] = Size("device", UNIT)
    line.line.wants.clear()
    line.line.ask(both)
    line.load()
    assert not both.admitted and len(line.device.lru) == 0
    assert line.line.condemned == {("t", "e")}
    line.release(held)
    line.load()
    assert line.there(both)


def test_what_was_loaded_is_protected_until_its_lease():
    line = Line(device=10)
    first = line.ask(a=6)
    line.load()
    second = line.ask(b=6)
    line.load()
    assert line.there(first) and not second.admitted
    line.lease(first)
    line.load()
    assert line.line.condemned == first.keys, "the second now waits for this lease only"
    line.release(first)
    line.load()
    assert line.there(second)


def test_protection_ends_when_nobody_comes():
    line = Line(device=10)
    first = line.ask(a=6)
    line.load()
    second = line.ask(b=6)
    line.load()
    assert line.line.next_expiry() == line.clock.now + 2.0
    line.clock.now += 2.0
    line.load()
    assert line.there(second) and not line.there(first)
    assert line.line.next_expiry() is None


def test_a_lease_on_a_part_does_not_end_the_protection_of_the_whole():
    line = Line(device=10)
    whole = line.ask(a=3, b=3)
    line.load()
    assert line.line.fulfil([("t", "a")]) == []
    assert line.line.protected == whole.keys
    assert line.line.fulfil([("t", "a"), ("t", "b"), ("t", "c")]) == [whole]
    assert line.line.protected == set()


def test_the_same_set_stands_in_line_once():
    line = Line()
    first = line.ask(a=1, b=1)
    line.ask(b=1, a=1)
    assert list(line.line.wants.values()) == [first]


def test_a_want_that_fits_overtakes_one_that_waits_but_not_for_ever():
    line = Line(device=10)
    held = line.ask(a=4)
    line.load()
    line.lease(held)
    large = line.ask(b=8)
    for count in range(OVERTAKES + 5):
        small = line.ask(**{f"s{count}": 2})
        line.load()
        assert line.there(small) == (count < OVERTAKES)
        if line.there(small):
            line.lease(small)
            line.release(small)
    line.release(held)
    line.load()
    assert line.there(large)


def test_leased_entries_that_the_first_in_line_needs_are_condemned_and_no_more():
    line = Line(device=10)
    held = [line.ask(**{name: 3}) for name in "abc"]
    line.load()
    for want in held:
        line.lease(want)
    line.ask(d=3)
    line.load()
    assert line.line.condemned == held[0].keys, "the longest unused is enough"


def test_fragments_cost_further_evictions_until_a_run_fits():
    line = Line(device=9)
    names = [line.ask(**{name: 3}) for name in "abc"]
    line.load()
    for want in names:
        line.lease(want)
        line.release(want)
    line.device.lru.touch(("t", "b"))  # order of use: a, c, b; a and c are no neighbours
    large = line.ask(d=6)
    line.load()
    assert line.there(large) and len(line.device.lru) == 1


def test_a_member_that_splits_the_room_is_moved():
    line = Line(device=9)
    left, middle = line.ask(a=3), line.ask(b=3)
    line.load()
    for want in (left, middle):
        line.lease(want)
        line.release(want)
    line.device.evict(("t", "a"))  # free: 3 units, b, 3 units
    both = line.ask(b=3, c=6)
    line.load()
    assert line.there(both) and line.device.check() == ()


def test_a_leased_member_that_splits_the_room_is_waited_for():
    line = Line(device=9)
    left, middle = line.ask(a=3), line.ask(b=3)
    line.load()
    line.lease(left)
    line.release(left)
    line.lease(middle)
    line.device.evict(("t", "a"))
    both = line.ask(b=3, c=6)
    line.load()
    assert not both.admitted and line.line.condemned == {("t", "b")}
    line.release(middle)
    line.load()
    assert line.there(both)


@pytest.mark.parametrize(("units", "pinned", "possible"), [(10, 0, True), (11, 0, False), (7, 3, True), (8, 3, False)])
def test_what_can_never_fit_beside_the_pins_is_an_obstacle_at_once(units, pinned, possible):
    line = Line(device=10)
    if pinned:
        line.lease(want := (line.ask(p=pinned), line.load())[0])
        line.release(want)
        line.device.lru.pin(("t", "p"))
    want = line.ask(a=units)
    error = line.line.obstacle(want.keys, "a")
    assert (error is None) == possible
    assert possible or f"{units * UNIT} bytes in the device tier of {10 * UNIT}" in str(error)
    assert line.line.admit() == (not possible)
    assert want.admitted == possible and (want.keys in line.line.wants) == possible


def three(line):
    wants = [line.ask(**{name: 3}) for name in "abc"]
    line.load()
    for want in wants:
        line.lease(want)
        line.release(want)
    line.device.lru.pin(("t", "b"))  # free without it: 3 units, b, 3 units


def test_a_pin_in_the_middle_is_no_obstacle_and_moves():
    line = Line(device=9)
    three(line)
    assert line.line.obstacle(line.ask(b=3, e=3).keys, "b + e") is None, "a pinned member counts once"
    line.line.wants.clear()
    assert line.line.obstacle(line.ask(d=7).keys, "d") is not None
    line.line.wants.clear()
    large = line.ask(d=6)
    line.load()
    assert line.there(large) and line.device.get(("t", "b")) is not None
    assert line.lifted == [("t", "b")] and set(line.device.lru.pinned) == {("t", "b")}
    assert line.device.check() == ()


def test_a_leased_pin_in_the_middle_takes_no_new_lease_until_it_moved():
    line = Line(device=9)
    three(line)
    line.device.lru.lease([("t", "b")])
    large = line.ask(d=6)
    line.load()
    assert not large.admitted and line.line.condemned == {("t", "b")}
    line.device.lru.release([("t", "b")])
    line.load()
    assert line.there(large) and line.device.get(("t", "b")) is not None
    assert line.line.condemned == frozenset()


def test_a_moved_pin_that_can_not_come_back_is_given_up_with_its_room():
    line = Line(device=9)
    three(line)
    line.ask(d=6)
    line.line.admit()
    line.line.drop(("t", "b"))
    assert ("t", "b") not in line.device.lru and not line.device.lru.pinned
    assert line.device.check() == ()


def test_a_pass_tells_whether_an_entry_takes_leases_again():
    line = Line(device=10)
    held = line.ask(a=6)
    line.load()
    line.lease(held)
    waiting = line.ask(b=6)
    assert not line.line.admit() and line.line.condemned == held.keys
    assert not line.line.admit(), "nothing changed"
    line.clock.now += 7.0
    assert line.line.admit() and waiting.keys not in line.line.wants and line.line.condemned == frozenset()
    assert not line.line.admit()


def test_a_want_whose_size_is_unknown_waits_without_holding_others_back():
    line = Line()
    unknown = line.ask(a=1)
    del line.sizes["t", "a"]
    known = line.ask(b=1)
    line.load()
    assert line.there(known) and not unknown.admitted and unknown.overtaken == 0


def test_a_failed_member_frees_what_only_its_wants_reserved():
    line = Line(device=10)
    line.ask(a=2, bad=2, shared=2)
    other = line.ask(shared=2)
    line.line.admit()
    line.line.drop(("t", "bad"))
    assert list(line.device.lru) == [("t", "shared")] and list(line.line.wants.values()) == [other]
    assert line.device.evictions == 0


@pytest.mark.parametrize("seed", range(5))
def test_whoever_fits_alone_is_served_in_the_end(seed):
    """Random sets, random leases, a crowd of small hits: every want is leased within a bounded number of rounds."""
    chance = random.Random(seed)
    line = Line(device=20)
    sizes = {f"x{i}": chance.randint(1, 9) for i in range(12)}
    waiting = {}
    for _ in range(25):
        names = chance.sample(sorted(sizes), chance.randint(1, 3))
        if sum(sizes[name] for name in names) <= 20:
            want = line.ask(**{name: sizes[name] for name in names})
            waiting.setdefault(want.keys, want)
    held = []
    rounds = 0
    while waiting:
        rounds += 1
        assert rounds < 300, f"{len(waiting)} wants starve"
        line.load()
        assert line.device.check() == ()
        for keys, want in list(waiting.items()):
            if line.there(want) and not keys & line.line.condemned and chance.random() < 0.7:
                line.lease(want)
                held.append(waiting.pop(keys))
            elif keys not in line.line.wants:
                line.line.ask(want)  # as a request asks again
        chance.shuffle(held)
        while held and chance.random() < 0.6:
            line.release(held.pop())
