"""Runs never overlap, never get lost, and merge with their neighbours."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adapters.cache.runs import Run, Runs


def test_the_tightest_run_is_cut_and_the_lowest_of_equals():
    runs = Runs(20, [Run(4, 1), Run(8, 1), Run(12, 1)])  # free: 0-4, 5-8, 9-12, 13-20
    assert runs.take(3) == Run(5, 3)
    assert runs.take(5) == Run(13, 5)
    assert runs.take(6) is None


def test_neighbours_merge_on_both_sides():
    runs = Runs(9)
    low, middle, high = (runs.take(3) for _ in range(3))
    runs.give(low)
    runs.give(high)
    assert not runs.fits([9])
    runs.give(middle)
    assert runs.fits([9]) and runs.check([]) == ()


def test_fits_asks_for_all_of_them_together_and_takes_nothing():
    runs = Runs(10, [Run(4, 2)])
    assert runs.fits([4, 4]) and runs.fits([2, 2, 2, 2]) and runs.fits([])
    assert not runs.fits([3, 3, 2]) and not runs.fits([5])
    assert runs.free == 8


def test_nothing_takes_no_unit_even_when_full():
    runs = Runs(0)
    assert runs.take(0) == Run(0, 0) and runs.fits([0, 0])
    runs.give(Run(0, 0))
    assert runs.check([Run(0, 0)]) == ()


def test_check_sees_units_lost_held_twice_and_beyond_the_end():
    runs = Runs(10, [Run(2, 3)])
    assert runs.check([Run(2, 3)]) == ()
    assert any("lost" in fault for fault in runs.check([Run(2, 2)]))
    assert any("twice" in fault for fault in runs.check([Run(1, 4)]))
    assert runs.check([Run(2, 3), Run(10, 1)])


def test_check_sees_free_neighbours_that_were_not_merged():
    runs = Runs(10)
    runs._starts, runs._sizes = [0, 5], [5, 5]
    assert any("touch" in fault for fault in runs.check([]))


class Machine(RuleBasedStateMachine):
    """Every unit is free or belongs to exactly one holder."""

    def __init__(self):
        super().__init__()
        self.runs = Runs(40)
        self.held = []

    @rule(units=st.integers(0, 15))
    def take(self, units):
        possible = self.runs.fits([units])
        run = self.runs.take(units)
        assert (run is not None) == possible
        if run is not None:
            assert run.units == units
            self.held.append(run)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give(self, data):
        self.runs.give(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @rule(sizes=st.lists(st.integers(0, 15), max_size=4))
    def what_fits_can_be_taken_largest_first(self, sizes):
        fits = self.runs.fits(sizes)
        taken = [self.runs.take(units) for units in sorted(sizes, reverse=True)] if fits else []
        assert None not in taken
        for run in taken:
            self.runs.give(run)

    @invariant()
    def tiled(self):
        assert self.runs.check(self.held) == ()
        assert self.runs.free == 40 - sum(run.units for run in self.held)
        assert Runs(40, self.held).fits([]) and Runs(40, self.held)._starts == self.runs._starts


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True)
