"""The fair queue: order, shares, bounds, deadlines."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import Conflict, Overloaded
from serving.scheduler.batcher import Budget
from serving.scheduler.queue import BYTES_PER_COST, FairQueue
from serving.scheduler.waiting import Waiting
from tests.serving.scheduler.machine import SIZE, Clock, ref, ticket

LAYERS = 2
ONE = Budget(1, 1000, 10**9)
MANY = Budget(100, 10**6, 10**9)


def waiting(name, tenant="a", clock=lambda: 100.0, **options):
    made = ticket(name, tenant, **options)
    return Waiting(made, made.refs, print, clock(), clock() + made.deadline_ms / 1000)


def queue_of(*rows, max_queued=100, clock=None, shares=None):
    queue = FairQueue(LAYERS, max_queued, clock or Clock(), shares)
    for row in rows:
        assert queue.put(row) is None
    return queue


def everything(refs):
    return dict.fromkeys(refs, SIZE)


def taken(queue, budget=MANY, ready=everything):
    rows = [picked.waiting.ticket.id for picked in queue.take(budget, ready)]
    assert queue.check() == ()
    return rows


def drain(queue, ready=everything):
    order = []
    while len(queue):
        order += taken(queue, ONE, ready)
    return order


def test_one_tenant_is_served_in_order():
    assert taken(queue_of(*(waiting(name) for name in "abc"))) == ["a", "b", "c"]


def test_tenants_take_turns_whatever_they_queued_first():
    queue = queue_of(*(waiting(f"a{i}") for i in range(4)), waiting("b0", "b"), waiting("b1", "b"))
    assert drain(queue) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_long_rows_cost_more_than_short_ones():
    long = [waiting(f"a{i}", tokens=30) for i in range(2)]
    short = [waiting(f"b{i}", "b", tokens=10) for i in range(4)]
    assert drain(queue_of(*long, *short)) == ["a0", "b0", "b1", "b2", "a1", "b3"]


def test_the_row_whose_turn_it_is_closes_the_batch_where_it_does_not_fit():
    rows = [waiting(f"a{i}", tokens=60) for i in range(3)] + [waiting(f"b{i}", "b", tokens=10) for i in range(20)]
    queue = queue_of(*rows, shares={"a": 6.0})
    assert taken(queue, replace(MANY, tokens=100)) == ["a0", "b0"]  # the next is a1, and b1 may not pass it
    assert taken(queue, replace(MANY, tokens=100)) == ["a1", "b1"]


def test_where_others_have_little_to_do_a_long_line_leaves_the_step_early():
    rows = [waiting(f"a{i}", tokens=10) for i in range(50)] + [waiting("b0", "b", tokens=10)]
    assert len(queue_of(*rows).take(replace(MANY, tokens=100), everything, beside=40)) == 4
    assert len(queue_of(*rows[:-1]).take(replace(MANY, tokens=100), everything, beside=40)) == 10
    assert len(queue_of(*rows[40:]).take(replace(MANY, tokens=200), everything, beside=40)) == 11


def test_a_long_line_that_leaves_the_step_leaves_it_to_the_others():
    rows = [waiting(f"a{i}", tokens=10) for i in range(50)] + [waiting(f"b{i}", "b", tokens=10) for i in range(8)]
    picked = queue_of(*rows).take(replace(MANY, tokens=100), everything, beside=40)
    assert sorted(row.waiting.ticket.id for row in picked) == ["a0", "a1", *(f"b{i}" for i in range(8))]


def test_a_larger_share_is_served_more_often():
    rows = [waiting(f"{tenant}{i}", tenant) for i in range(6) for tenant in "ab"]
    order = drain(queue_of(*rows, shares={"a": 2.0}))[:6]
    assert sum(name[0] == "a" for name in order) == 4


def test_a_tenant_that_returns_has_saved_nothing_up():
    queue = queue_of(*(waiting(f"a{i}") for i in range(8)))
    for _ in range(4):
        taken(queue, ONE)
    for i in range(4):
        queue.put(waiting(f"b{i}", "b"))
    assert sum(name[0] == "a" for name in drain(queue)[:4]) == 2


def test_a_tenant_that_empties_its_line_is_not_forgiven():
    queue = queue_of(waiting("a0", tokens=50), waiting("b0", "b"), waiting("b1", "b"))
    assert taken(queue, ONE) == ["a0"]
    queue.put(waiting("a1"))
    assert drain(queue) == ["b0", "b1", "a1"]


def test_rows_that_miss_their_adapters_hold_nobody_back():
    queue = queue_of(waiting("a0", adapters=["cold"]), waiting("a1", adapters=["hot"]), waiting("b0", "b"))
    assert sorted(taken(queue, ready=lambda refs: None if ref("cold") in refs else everything(refs))) == ["a1", "b0"]
    assert [row.ticket.id for row in queue.upcoming(9)] == ["a0"]


def test_the_time_of_a_miss_is_told_apart_from_the_time_in_the_queue():
    clock = Clock()
    queue = queue_of(waiting("a", adapters=["cold"]), clock=clock)
    clock.now += 3
    assert taken(queue, ready=lambda refs: None) == []
    clock.now += 5
    (picked,) = queue.take(MANY, everything)
    assert (picked.queue_s, picked.load_s) == (3, 5)


TWO_ROWS = BYTES_PER_COST * LAYERS * 4 * 2  # bytes that cost as much as two rows


def test_moved_bytes_are_paid_with_the_first_row_that_uses_them():
    a = [waiting("a0", adapters=["x"]), waiting("a1", adapters=["x"]), waiting("a2")]
    queue = queue_of(*a, *(waiting(f"b{i}", "b") for i in range(5)))
    queue.charge("a", {ref("x"): TWO_ROWS})
    assert drain(queue) == ["a0", "b0", "b1", "b2", "a1", "b3", "a2", "b4"]


def test_a_dear_load_does_not_push_its_own_row_away():
    queue = queue_of(waiting("a0", adapters=["x"]), *(waiting(f"b{i}", "b") for i in range(50)))
    for _ in range(100):  # evicted before its turn, and brought in again
        queue.charge("a", {ref("x"): 100 * TWO_ROWS})
    assert drain(queue)[:2] == ["a0", "b0"]
    queue.put(waiting("a1"))
    queue.put(waiting("b99", "b"))
    assert queue._virtual["a"] - queue._virtual["b"] <= 101 * LAYERS * 4 * 2, "what no row used is owed once"


def test_rows_of_one_batch_do_not_run_on_credit():
    a = [waiting(f"a{i}", adapters=["x"]) for i in range(4)]
    queue = queue_of(*a, *(waiting(f"b{i}", "b") for i in range(4)))
    queue.charge("a", {ref("x"): TWO_ROWS})
    assert taken(queue, replace(MANY, rows=4)) == ["a0", "b0", "b1", "b2"]


def test_moved_bytes_are_paid_at_once_where_no_row_waits_for_them_any_more():
    queue = queue_of(waiting("a0", adapters=["x"]), waiting("b0", "b"))
    queue.charge("a", {ref("x"): TWO_ROWS})
    queue.remove(["a0"])  # cancelled
    queue.charge("c", {ref("y", "c"): TWO_ROWS})
    assert queue.check() == ()
    assert queue._virtual["a"] == queue._virtual["c"] == LAYERS * 4 * 2


def test_a_restored_row_owes_its_loads_again():
    queue = queue_of(waiting("a0", adapters=["x"]), waiting("b0", "b"), waiting("b1", "b"))
    queue.charge("a", {ref("x"): TWO_ROWS})
    (picked,) = queue.take(ONE, everything)
    assert picked.paid == 3 * LAYERS * 4
    queue.restore([picked])
    assert queue._virtual["a"] == 0.0 and queue.check() == ()
    (picked,) = queue.take(ONE, everything)
    assert (picked.waiting.ticket.id, picked.paid) == ("a0", 3 * LAYERS * 4)


def test_a_restored_row_is_first_again_and_not_charged_twice():
    queue = queue_of(waiting("a0"), waiting("a1"), waiting("b0", "b"), waiting("b1", "b"))
    (picked,) = queue.take(ONE, everything)
    queue.restore([picked])
    assert queue.check() == ()
    assert drain(queue) == ["a0", "b0", "a1", "b1"]


def test_restored_rows_keep_their_order():
    queue = queue_of(*(waiting(f"a{i}") for i in range(4)))
    queue.restore(queue.take(Budget(3, 1000, 10**9), everything))
    assert taken(queue) == ["a0", "a1", "a2", "a3"]


def test_a_row_that_was_dropped_costs_its_tenant_nothing():
    queue = queue_of(waiting("a0", tokens=90), waiting("a1"), waiting("b0", "b"), waiting("b1", "b"))
    (picked,) = queue.take(ONE, everything)
    queue.refund(picked)
    assert drain(queue) == ["a1", "b0", "b1"]


def test_upcoming_tells_the_fair_order_without_taking():
    rows = [*(waiting(f"a{i}") for i in range(3)), waiting("b0", "b")]
    queue = queue_of(*rows)
    assert [row.ticket.id for row in queue.upcoming(3)] == ["a0", "b0", "a1"]
    assert len(queue) == 4


def test_a_flood_displaces_its_own_newest_row_and_not_a_neighbours():
    queue = queue_of(*(waiting(f"a{i}") for i in range(4)), max_queued=4)
    displaced = queue.put(waiting("b0", "b"))
    assert displaced.ticket.id == "a3"
    assert queue.check() == ()
    with pytest.raises(Overloaded) as refusal:
        queue.put(waiting("a9"), retry_after=2.5)
    assert refusal.value.retry_after == 2.5
    assert sorted(drain(queue)) == ["a0", "a1", "a2", "b0"]


def test_a_ticket_can_not_wait_twice():
    queue = queue_of(waiting("a0"))
    with pytest.raises(Conflict):
        queue.put(waiting("a0"))
    assert queue.check() == ()


def test_expired_rows_leave_once_and_removed_ones_do_not_expire():
    clock = Clock()
    queue = queue_of(
        waiting("soon", deadline_ms=1000), waiting("gone", deadline_ms=1000), waiting("later"), clock=clock
    )
    assert [row.ticket.id for row in queue.remove(["gone", "unknown"])] == ["gone"]
    assert queue.next_deadline() == 101.0
    assert queue.expire() == []
    clock.now = 101.0
    assert [row.ticket.id for row in queue.expire()] == ["soon"]
    assert queue.expire() == []
    assert queue.check() == ()
    assert taken(queue) == ["later"]


def test_a_restored_row_still_expires():
    clock = Clock()
    queue = queue_of(waiting("a", deadline_ms=1000), clock=clock)
    (picked,) = queue.take(ONE, everything)
    clock.now = 200.0
    assert queue.expire() == []
    queue.restore([picked])
    assert [row.ticket.id for row in queue.expire()] == ["a"]


def test_an_old_deadline_does_not_end_a_later_row_of_the_same_name():
    clock = Clock()
    queue = queue_of(waiting("a", deadline_ms=1000), clock=clock)
    queue.remove(["a"])
    queue.put(waiting("a", deadline_ms=9000))
    clock.now = 101.0
    assert queue.expire() == []
    assert len(queue) == 1


def test_deadlines_of_rows_that_left_do_not_pile_up():
    queue = queue_of()
    for i in range(1000):
        queue.put(waiting(f"a{i}"))
        taken(queue)
    assert len(queue._lines._deadlines) < 100


def test_counters_of_tenants_that_left_do_not_pile_up():
    queue = queue_of()
    for i in range(1000):
        queue.put(waiting("x", f"tenant{i}"))
        taken(queue)
    assert len(queue._virtual) < 200


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 64)), min_size=1, max_size=60),
    rows=st.integers(1, 5),
)
def test_while_two_tenants_wait_neither_gets_ahead_by_more_than_a_batch_and_a_row(lengths, rows):
    queue = queue_of(*(waiting(f"r{i}", tenant, tokens=n) for i, (tenant, n) in enumerate(lengths)))
    cost = {f"r{i}": LAYERS * n for i, (_, n) in enumerate(lengths)}
    tenants = {f"r{i}": tenant for i, (tenant, _) in enumerate(lengths)}
    left, served = [tenant for tenant, _ in lengths], dict.fromkeys("abc", 0.0)
    while len(queue):
        for name in taken(queue, Budget(rows, 10**6, 10**9)):
            served[tenants[name]] += cost[name]
            left.remove(tenants[name])
            backlogged = [served[tenant] for tenant in set(left)]
            if len(backlogged) > 1 and set(left) == {tenant for tenant, _ in lengths}:
                assert max(backlogged) - min(backlogged) <= LAYERS * 64


def test_the_tokens_of_a_prompt_are_counted_and_charged():
    plain = waiting("plain", tokens=10)
    prompted = replace(plain, ticket=replace(plain.ticket, id="prompted", inserted=90))
    assert (plain.tokens, prompted.tokens) == (10, 100)
    queue = queue_of(plain, prompted)
    assert taken(queue, replace(MANY, tokens=50)) == ["plain"]


def test_layers_that_a_row_visits_again_are_charged_as_tokens():
    plain = waiting("plain", tokens=10)
    deep = replace(plain, ticket=replace(plain.ticket, id="deep", visits=4 / 3, inserted=1))
    assert deep.tokens == 15  # 11 tokens through a third more layers, rounded up
    queue = queue_of(plain, deep)
    assert queue.price(deep) == 1.5 * queue.price(plain)
    assert queue.cost == queue.price(deep) + queue.price(plain)


def test_a_guest_has_little_to_do_beside_one_who_has_more():
    queue = queue_of(*(waiting(f"a{i}") for i in range(3)))
    cost = queue.price(waiting("x"))
    assert not queue_of().guests(cost)
    assert not queue.guests(cost)
    queue.put(waiting("b0", "b"))
    assert queue.guests(cost)
    assert queue.guests(2 * cost)
    assert not queue.guests(cost - 1), "both have more"
    assert not queue.guests(3 * cost), "neither has"
