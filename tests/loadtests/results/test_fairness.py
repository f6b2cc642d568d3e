import pytest

from loadtests.results.fairness import fair_shares, fairness, jain

ONES = {"a": 1.0, "b": 1.0, "c": 1.0}


def test_whoever_wants_less_than_its_part_gets_all_of_it_and_the_rest_is_shared():
    assert fair_shares({"a": 10, "b": 100, "c": 100}, ONES, 90) == {"a": 10, "b": 40, "c": 40}
    assert fair_shares({"a": 10, "b": 20, "c": 5}, ONES, 90) == {"a": 10, "b": 20, "c": 5}


def test_weights_are_parts_of_what_is_left():
    shares = fair_shares({"a": 5, "b": 100, "c": 100}, {"a": 1, "b": 1, "c": 3}, 45)
    assert shares == {"a": 5, "b": 10, "c": 30}
    assert fair_shares({"a": 100, "c": 25}, {"a": 1, "c": 3}, 40) == {"a": 15, "c": 25}


def test_who_asks_nothing_gets_nothing():
    assert fair_shares({"a": 0, "b": 10}, ONES, 5) == {"a": 0, "b": 5}
    assert fair_shares({"a": 1}, ONES, 0) == {"a": 0}


def test_jains_index_is_one_for_equals_and_one_over_n_for_a_thief():
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 1


def test_it_is_fair_that_a_flood_gets_less_than_it_asks_for():
    weight = {"calm": 1.0, "loud": 1.0}
    assert fairness({"calm": 10, "loud": 1000}, {"calm": 10, "loud": 90}, weight) == pytest.approx(1)
    assert fairness({"calm": 10, "loud": 1000}, {"calm": 1, "loud": 99}, weight) < 0.7
