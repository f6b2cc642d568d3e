"""What retries may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.dispatch.budget import RATIO, REFILL_S, RetryBudget
from tests.serving.test_affinity import Clock


def spent(budget: RetryBudget, most: int = 10_000) -> int:
    """How many retries can be paid for now."""
    count = 0
    while count < most and budget.spend():
        count += 1
    return count


def test_a_replicas_death_with_everything_on_board_is_covered():
    assert spent(RetryBudget(500, Clock())) == 500


def test_afterwards_a_tenth_of_the_rows_is():
    budget = RetryBudget(500, Clock())
    spent(budget)
    for _ in range(100):
        budget.earn(10)
    assert spent(budget) == pytest.approx(1000 * RATIO, abs=1)


def test_the_reserve_is_whole_again_after_a_while_without_rows():
    clock = Clock()
    budget = RetryBudget(500, clock)
    spent(budget)
    clock.now += REFILL_S / 2
    assert spent(budget) == 250
    clock.now += 10 * REFILL_S
    assert spent(budget) == 500, "and never more than the reserve"


def test_rows_do_not_save_up_more_than_the_reserve():
    budget = RetryBudget(50, Clock())
    budget.earn(1_000_000)
    assert spent(budget) == 50


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.floats(0, 100))))
def test_retries_never_outgrow_rows_time_and_reserve(steps):
    clock, rows, paid = Clock(), 0, 0
    budget = RetryBudget(100, clock)
    for taken, wanted, seconds in steps:
        budget.earn(taken)
        rows += taken
        paid += spent(budget, wanted)
        clock.now += seconds
        budget.check()
        assert paid <= 100 + RATIO * rows + 100 * clock.now / REFILL_S + 1e-6
