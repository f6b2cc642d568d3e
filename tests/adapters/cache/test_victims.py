"""Who goes: the longest unused, but nobody below a floor for another, and never beyond a ceiling."""

from adapters.cache.device import DeviceTier, RunDraft
from adapters.cache.host import HostTier
from adapters.cache.rooms import Room
from adapters.cache.victims import choose
from tests.adapters.cache.fakes import UNIT, Embedding


def tier_of(budget=100, rooms=None, **held):
    """Entries `a1=30` of tenant `a`, longest unused first."""
    tier = HostTier(budget)
    for name, nbytes in held.items():
        tier.put(key(name), Embedding(nbytes))
    tier.rooms.share(rooms or {})
    return tier


def key(name):
    return (name[0], name)


def gone(tier, protected=(), past_leases=False, **sizes):
    choice = choose(
        tier, {key(name): n for name, n in sizes.items()}, {key(p) for p in protected}, past_leases=past_leases
    )
    return [name for _, name in choice.gone] if choice.fits else None


def test_without_rooms_the_longest_unused_goes_whoever_owns_it():
    assert gone(tier_of(a1=40, b1=30, a2=30), c1=50) == ["a1", "b1"]


def test_nothing_goes_where_there_is_room():
    assert gone(tier_of(a1=40), c1=60) == []


def test_another_tenant_is_never_taken_below_its_floor():
    tier = tier_of(a1=40, b1=30, a2=30, rooms={"a": Room(40)})
    assert gone(tier, c1=50) == ["b1", "a2"]
    assert gone(tier, c1=70) is None


def test_a_tenant_takes_from_itself_below_its_own_floor():
    assert gone(tier_of(a1=40, b1=60, rooms={"a": Room(40), "b": Room(60)}), a2=40) == ["a1"]


def test_a_tenant_at_its_ceiling_takes_from_itself_alone():
    tier = tier_of(b1=40, a1=20, a2=20, rooms={"a": Room(0, 40)})
    assert gone(tier, a3=20) == ["a1"]
    assert gone(tier, a3=30) == ["a1", "a2"]


def test_a_tenant_below_its_ceiling_takes_only_what_is_over_from_itself():
    tier = tier_of(b1=50, a1=20, a2=20, rooms={"a": Room(0, 50)})
    assert gone(tier, a3=30) == ["a1"]


def test_a_full_tenant_is_told_apart_from_a_full_tier():
    tier = tier_of(b1=40, a1=40, rooms={"a": Room(0, 40)})
    tier.lru.lease([key("a1")])
    full = choose(tier, {key("a2"): 10}, ())
    assert not full.fits and full.full == {"a"}
    tier.lru.lease([key("b1")])
    crowded = choose(tier, {key("c1"): 90}, ())
    assert not crowded.fits and not crowded.full


def test_it_is_asked_once_per_entry_that_goes_or_moves_whether_that_is_enough(monkeypatch):
    asked = []
    fits = RunDraft.fits
    monkeypatch.setattr(RunDraft, "fits", lambda self, sizes: asked.append(sizes) or fits(self, sizes))
    tier = DeviceTier(100 * UNIT)
    tier.rooms.share({"a": Room(90 * UNIT)})
    for unit in range(100):  # a unit of b's behind each nine that the floor of a keeps
        tier.reserve(key(f"{'b' if unit % 10 == 9 else 'a'}{unit}"), UNIT)
    choice = choose(tier, {key("c"): 4 * UNIT}, ())
    assert choice.fits and {owner for owner, _ in choice.gone} == {"b"} and len(choice.gone) == 10
    assert len(asked) <= len(choice.gone) + len(choice.moved) + 1, "not for those that may not go"
    assert all(sum(sizes) <= 10 * UNIT + len(choice.moved) * UNIT for sizes in asked), "nor where bytes are too few"


def test_pins_are_moved_from_the_far_end_and_only_where_nothing_else_helps():
    tier = DeviceTier(12 * UNIT)
    for unit in range(12):
        tier.reserve(key(f"a{unit}"), UNIT)
    for unit in (3, 6, 9):
        tier.lru.pin(key(f"a{unit}"))
    assert choose(tier, {key("c"): 3 * UNIT}, ()).moved == ()
    choice = choose(tier, {key("c"): 5 * UNIT}, ())
    assert choice.fits and choice.moved == (key("a9"),)
    tier.lru.lease([key("a9")])
    assert choose(tier, {key("c"): 5 * UNIT}, ()).moved == (key("a6"),)
    tier.lru.lease([key("a6"), key("a3")])
    assert not choose(tier, {key("c"): 5 * UNIT}, ()).fits
    assert choose(tier, {key("c"): 5 * UNIT}, (), past_leases=True).moved == (key("a9"),)
    assert not choose(tier, {key("c"): 5 * UNIT}, {key(f"a{unit}") for unit in (3, 6, 9)}, past_leases=True).fits


def test_protected_leased_and_pinned_entries_stay():
    tier = tier_of(a1=25, a2=25, a3=25, a4=25)
    tier.lru.lease([key("a1")])
    tier.lru.pin(key("a2"))
    assert gone(tier, ["a3"], b1=25) == ["a4"]
    assert gone(tier, ["a3"], b1=26) is None
    assert gone(tier, ["a3"], past_leases=True, b1=50) == ["a4", "a1"]


def test_members_that_are_there_already_stay():
    assert gone(tier_of(a1=40, b1=60), a1=40, c1=30) == ["b1"]
