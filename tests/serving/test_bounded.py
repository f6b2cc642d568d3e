"""How many values of a label are told apart, and which."""

import pytest

from serving.bounded import OTHER, Bounded


def test_as_many_as_fit_are_told_apart_and_the_rest_are_one():
    bounded = Bounded(8)
    assert [bounded.label(f"t{i}") for i in range(6)] == ["t0", "t1", "t2", "t3", OTHER, OTHER]
    bounded.check()


def test_the_preferred_find_room_when_everybody_else_was_there_first():
    bounded = Bounded(8)
    for i in range(100):
        bounded.label(f"a stranger {i}")
    bounded.prefer(lambda value: value.startswith("t"))
    assert [bounded.label(f"t{i}") for i in range(6)] == ["t0", "t1", "t2", "t3", OTHER, OTHER]
    bounded.check()


def test_the_preferred_may_take_all_of_the_room():
    bounded = Bounded(4)
    bounded.prefer(lambda value: value.startswith("t"))
    assert [bounded.label(f"t{i}") for i in range(9)] == ["t0", "t1", "t2", "t3", *[OTHER] * 5]
    assert bounded.label("stranger") == OTHER
    bounded.check()


def test_what_was_admitted_stays_whatever_is_preferred_later():
    bounded = Bounded(4)
    bounded.prefer("gold".__eq__)
    assert bounded.label("gold") == "gold"
    bounded.label("one")
    bounded.prefer(lambda _: False)
    assert [bounded.label(name) for name in ("gold", "one", "two", "three")] == ["gold", "one", "two", OTHER]
    bounded.check()


def test_a_value_that_is_called_like_the_rest_is_counted_with_it():
    bounded = Bounded(4)
    bounded.prefer(OTHER.__eq__)
    assert bounded.label(OTHER) == OTHER
    assert [bounded.label(name) for name in ("a", "b", "c")] == ["a", "b", OTHER]


@pytest.mark.parametrize("limit", [1, 0, -1])
def test_a_bound_without_room_is_refused(limit):
    with pytest.raises(ValueError, match="no room"):
        Bounded(limit)
