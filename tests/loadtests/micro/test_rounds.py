import itertools

import pytest

from loadtests.micro.rounds import Rounds, interleave


def clock_of(costs):
    """A clock that a contender moves by its cost."""
    now = [0.0]

    def contender(name):
        def run():
            now[0] += costs[name]

        return run

    return (lambda: now[0]), {name: contender(name) for name in costs}


def test_every_contender_runs_once_per_round_and_is_timed_alone():
    clock, contenders = clock_of({"a": 2.0, "b": 4.0})
    found = interleave(contenders, rounds=3, warm_up=1, clock=clock)
    assert found.seconds == {"a": (2.0,) * 3, "b": (4.0,) * 3}


def test_who_goes_first_changes_every_round():
    order = []
    contenders = {name: (lambda name=name: order.append(name)) for name in "abc"}
    interleave(contenders, rounds=3, warm_up=1, clock=itertools.count().__next__)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_a_ratio_is_the_median_of_ratios_within_a_round():
    found = Rounds({"fast": (1.0, 10.0, 1.0), "slow": (2.0, 20.0, 9.0)})
    assert found.ratio("fast", "slow") == pytest.approx(2.0)
    assert found.ratio("slow", "fast") == pytest.approx(0.5)
    assert found.median("slow") == 9.0
