"""Budgets are values; a batch fills one."""

from serving.scheduler.batcher import Batcher, Budget, Fit
from serving.scheduler.waiting import Waiting
from tests.serving.scheduler.machine import ref, ticket


def row(name, tokens=4, adapters=()):
    made = ticket(name, adapters=adapters, tokens=tokens)
    return Waiting(made, made.refs, print, 0.0, 1.0)


def sizes(*names, nbytes=10):
    return {ref(name): nbytes for name in names}


def test_subtracting_makes_a_new_budget():
    budget = Budget(4, 100, 1000)
    assert budget - Budget(1, 30, 250) == Budget(3, 70, 750)
    assert budget == Budget(4, 100, 1000)


def test_rows_are_admitted_until_the_rows_run_out():
    batch = Batcher(Budget(2, 100, 100))
    assert batch.admit(row("a"), {}) is Fit.IN
    assert not batch.full
    assert batch.admit(row("b"), {}) is Fit.IN
    assert batch.full
    assert batch.admit(row("c"), {}) is Fit.FULL
    assert [waiting.ticket.id for waiting in batch.rows] == ["a", "b"]


def test_rows_are_admitted_until_the_tokens_run_out():
    batch = Batcher(Budget(9, 10, 100))
    assert batch.admit(row("a", tokens=6), {}) is Fit.IN
    assert batch.admit(row("b", tokens=5), {}) is Fit.FULL
    assert batch.admit(row("c", tokens=4), {}) is Fit.IN
    assert batch.full and batch.tokens == 10


def test_an_adapter_that_rows_share_is_counted_once():
    batch = Batcher(Budget(9, 100, 25))
    assert batch.admit(row("a"), sizes("x")) is Fit.IN
    assert batch.admit(row("b"), sizes("x")) is Fit.IN
    assert batch.admit(row("c"), sizes("x", "y")) is Fit.IN
    assert batch.admit(row("d"), sizes("z")) is Fit.SHORT
    assert batch.admit(row("e"), sizes("y")) is Fit.IN


def test_a_row_larger_than_the_whole_budget_runs_alone():
    batch = Batcher(Budget(8, 10, 5))
    assert batch.admit(row("huge", tokens=500), sizes("x", nbytes=50)) is Fit.IN
    assert batch.full
    assert batch.admit(row("b", tokens=1), {}) is Fit.FULL
