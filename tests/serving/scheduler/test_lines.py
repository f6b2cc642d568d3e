"""The books of the rows that wait: order, costs, deadlines."""

from serving.scheduler.lines import Lines
from serving.scheduler.waiting import Waiting
from tests.serving.scheduler.machine import ticket

LAYERS = 3


def row(name, tenant="a", tokens=4, deadline=160.0):
    made = ticket(name, tenant, tokens=tokens)
    return Waiting(made, made.refs, print, 100.0, deadline)


def lines_of(*rows):
    lines = Lines(LAYERS)
    for one in rows:
        lines.append(one)
    assert lines.check() == ()
    return lines


def names(rows):
    return [one.ticket.id for one in rows]


def test_costs_are_exact_and_follow_every_change():
    lines = lines_of(row("a0", tokens=5), row("a1", tokens=7), row("b0", "b", tokens=11))
    assert (lines.cost_of("a"), lines.cost_of("b"), lines.cost_of("c"), lines.cost) == (36, 33, 0, 69)
    lines.remove("a0")
    assert (lines.cost_of("a"), lines.rows("a"), lines.cost) == (21, 1, 54)
    lines.remove("a1")
    assert list(lines.tenants) == ["b"]
    assert lines.check() == ()


def test_rows_that_come_back_stand_at_the_head_in_their_order():
    lines = lines_of(row("a2"), row("b1", "b"))
    lines.prepend([row("a0"), row("b0", "b"), row("a1"), row("c0", "c")])
    assert names(lines.line("a")) == ["a0", "a1", "a2"]
    assert names(lines.line("b")) == ["b0", "b1"]
    assert lines.head("c").ticket.id == "c0"
    assert lines.check() == ()


def test_the_newest_row_of_the_longest_line_leaves_first():
    lines = lines_of(row("a0"), row("b0", "b"), row("b1", "b"))
    assert lines.newest_of_longest().ticket.id == "b1"


def test_deadlines_are_told_once_and_only_of_rows_that_wait():
    lines = lines_of(row("soon", deadline=101.0), row("gone", deadline=101.0), row("later"))
    lines.remove("gone")
    assert lines.next_deadline() == 101.0
    assert lines.late(100.9) == []
    assert lines.late(101.0) == ["soon"]
    assert lines.late(101.0) == []


def test_check_sees_what_does_not_add_up():
    for spoil in (
        lambda lines: lines._tenants.pop("a0"),
        lambda lines: lines._costs.update(a=1),
        lambda lines: lines._deadlines.clear(),
        lambda lines: lines._lines.update(empty={}),
    ):
        lines = lines_of(row("a0"))
        spoil(lines)
        assert lines.check() != ()
