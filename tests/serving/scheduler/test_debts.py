"""What was moved is owed by whom it was moved for, once, until its row runs."""

from serving.scheduler.debts import DEFERRED, Debts
from serving.scheduler.waiting import Waiting
from tests.serving.scheduler.machine import ref, ticket


def row(*adapters, tenant="a"):
    made = ticket("t", tenant, adapters=adapters)
    return Waiting(made, made.refs, print, 0.0, 1.0)


def test_a_row_settles_its_own_adapters_and_no_others():
    debts = Debts()
    assert debts.owe("a", {ref("x"): 5.0, ref("y"): 7.0}) == 0
    assert debts.settle(row("x", "z")) == {ref("x"): 5.0}
    assert debts.settle(row("x")) == {} and debts.tenants == {"a"}
    assert debts.settle(row("y")) == {ref("y"): 7.0} and debts.tenants == frozenset()


def test_what_was_brought_in_again_unused_is_owed_once():
    debts = Debts()
    for cost in (5.0, 6.0):
        assert debts.owe("a", {ref("x"): cost}) == 0
    assert debts.close("a") == 6.0


def test_tenants_owe_apart():
    debts = Debts()
    debts.owe("a", {ref("p", "public"): 5.0})
    shared = Waiting(ticket("t", "b"), (ref("p", "public"),), print, 0.0, 1.0)
    assert debts.settle(shared) == {}
    assert (debts.close("b"), debts.close("a"), debts.close("a")) == (0, 5.0, 0)


def test_no_more_than_so_many_loads_wait_for_a_row_and_the_oldest_is_paid_first():
    debts = Debts()
    debts.owe("a", {ref("first"): 3.0, ref("second"): 4.0})
    debts.owe("a", {ref("first"): 3.0})  # it came again: the younger by now
    assert debts.owe("a", {ref(f"x{i}"): 1.0 for i in range(DEFERRED - 1)}) == 4.0
    assert debts.owe("a", {ref("y"): 1.0}) == 3.0
    assert debts.close("a") == DEFERRED


def test_owing_nothing_leaves_nothing():
    debts = Debts()
    assert debts.owe("a", {}) == 0 and debts.tenants == frozenset()
