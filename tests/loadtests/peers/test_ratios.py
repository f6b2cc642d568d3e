import pytest

from loadtests.peers.ratios import Spread, ratio, spread


def test_a_ratio_is_taken_within_each_round():
    found = ratio([1.0, 10.0, 2.0], [3.0, 30.0, 4.0])
    assert found == Spread(3.0, 2.5, 3.0, 3)


def test_quartiles_lie_between_the_values():
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)


def test_one_round_has_no_spread():
    assert spread([2.0]) == Spread(2.0, 2.0, 2.0, 1)


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])
