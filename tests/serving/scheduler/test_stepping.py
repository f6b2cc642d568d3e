"""A batch through the machine: every row has one outcome."""

import pytest

from serving.request import Refusal, Result
from serving.scheduler.stepping import Stepper
from serving.scheduler.waiting import Picked, Waiting
from tests.serving.scheduler.machine import Clock, Machine, ticket


@pytest.fixture(autouse=True, params=[False, True], ids=["on the thread", "by itself"])
def overlaps(request, monkeypatch):
    monkeypatch.setattr(Machine, "overlaps", request.param)
    return request.param


class Bench:
    def __init__(self):
        self.clock, self.machine = Clock(), Machine()
        self.measured = []
        self.stepper = Stepper(self.machine, self.clock, "r", lambda rows, s: self.measured.append((len(rows), s)))

    def row(self, name, seconds=60.0):
        made = ticket(name, deadline_ms=seconds * 1000)
        return Picked(Waiting(made, made.refs, print, self.clock.now, self.clock.now + seconds), 0.0, 0.0)

    def run(self, *rows):
        outcomes = self.stepper.run(rows, lambda: None)
        assert sorted(one.picked.waiting.ticket.id for one in outcomes) == sorted(r.waiting.ticket.id for r in rows)
        return {one.picked.waiting.ticket.id: one for one in outcomes}


def test_a_row_whose_deadline_passed_after_it_was_picked_is_dropped_and_not_run():
    bench = Bench()
    late, fine = bench.row("late", 1.0), bench.row("fine")
    bench.clock.now += 1.0
    outcomes = bench.run(late, fine)
    assert bench.machine.batches == [["fine"]]
    assert outcomes["late"].dropped and outcomes["late"].answer.reply.code == "deadline_exceeded"
    assert not outcomes["fine"].dropped and isinstance(outcomes["fine"].answer.reply, Result)


def test_nothing_runs_where_all_rows_are_late():
    bench = Bench()
    late = bench.row("late", 1.0)
    bench.clock.now += 2.0
    bench.run(late)
    assert bench.machine.attempts == 0
    assert bench.measured == []


def test_rows_that_expire_while_a_batch_is_halved_are_not_tried_again():
    bench = Bench()
    bench.machine.poison = {"bad"}

    def pass_time():
        bench.clock.now += 5.0

    bench.machine.during = pass_time
    outcomes = bench.run(bench.row("bad"), bench.row("short", 4.0), bench.row("fine"))
    assert outcomes["short"].dropped
    assert outcomes["bad"].answer.reply.code == "engine_failed"
    assert isinstance(outcomes["fine"].answer.reply, Result)
    assert bench.machine.batches == [["fine"]]


def test_only_what_ran_is_measured():
    bench = Bench()
    bench.machine.refused, bench.machine.leaving = {"no"}, {"left"}

    def pass_time():
        bench.clock.now += 0.25

    bench.machine.during = pass_time
    outcomes = bench.run(bench.row("yes"), bench.row("no"), bench.row("left"))
    assert bench.measured == [(1, 0.25)]
    assert outcomes["left"].answer is None and not outcomes["left"].dropped
    assert isinstance(outcomes["no"].answer.reply, Refusal)


def test_a_batch_after_which_nothing_can_be_computed_is_given_back_whole_and_nothing_is_tried_again():
    bench = Bench()
    bench.machine.fatal = {"bad"}
    outcomes = bench.run(*(bench.row(name) for name in ("fine", "good", "bad", "other")))
    assert {outcome.answer.reply.code for outcome in outcomes.values()} == {"engine_broken"}
    assert (bench.machine.attempts, bench.stepper.broken) == (1, True)
    assert bench.run(bench.row("next"))["next"].answer.reply.code == "engine_broken"
    assert bench.machine.attempts == 1


def test_what_was_answered_before_the_machine_broke_stays_answered():
    bench = Bench()
    bench.machine.poison = {"poison"}

    def break_in_the_second_half():
        bench.machine.fatal = {"late"} if bench.machine.batches else set()

    bench.machine.during = break_in_the_second_half
    outcomes = bench.run(bench.row("fine"), bench.row("poison"), bench.row("late"), bench.row("last"))
    codes = {name: getattr(outcome.answer.reply, "code", "right") for name, outcome in outcomes.items()}
    assert codes == {"fine": "right", "poison": "engine_failed", "late": "engine_broken", "last": "engine_broken"}


def test_a_step_that_raises_breaks_no_machine_that_still_computes():
    bench = Bench()
    bench.machine.poison = {"a", "b", "c"}
    outcomes = bench.run(*(bench.row(name) for name in "abc"))
    assert {outcome.answer.reply.code for outcome in outcomes.values()} == {"engine_failed"}
    assert not bench.stepper.broken


def test_rows_that_are_late_when_a_batch_begins_are_dropped_and_those_that_become_late_in_it_are_answered():
    bench = Bench()
    late, soon = bench.row("late", 1.0), bench.row("soon", 5.0)
    bench.clock.now += 1.0
    flight = bench.stepper.begin([late, soon], lambda: None)
    bench.clock.now += 9.0
    outcomes = {one.picked.waiting.ticket.id: one for one in bench.stepper.finish(flight)}
    assert outcomes["late"].dropped
    assert isinstance(outcomes["soon"].answer.reply, Result)


def test_what_a_batch_raises_at_once_is_kept_until_it_is_finished(overlaps):
    bench = Bench()
    bench.machine.poison = {"bad"}
    first, second = (bench.stepper.begin([bench.row(name)], lambda: None) for name in ("bad", "fine"))
    assert isinstance(first.begun, RuntimeError) != overlaps
    assert bench.machine.batches == []
    assert [one.answer.reply.code for one in bench.stepper.finish(first)] == ["engine_failed"]
    assert isinstance(bench.stepper.finish(second)[0].answer.reply, Result)


def test_a_batch_behind_the_one_that_broke_the_machine_is_given_back():
    bench = Bench()
    bench.machine.fatal = {"bad"}
    first, second = (bench.stepper.begin([bench.row(name)], lambda: None) for name in ("bad", "behind"))
    codes = [one.answer.reply.code for flight in (first, second) for one in bench.stepper.finish(flight)]
    assert codes == ["engine_broken"] * 2
    assert bench.machine.batches == []


def test_a_machine_that_tells_how_long_a_batch_took_is_believed(monkeypatch):
    bench = Bench()
    flight = bench.stepper.begin([bench.row("a")], lambda: None)
    bench.clock.now += 7.0
    flight.begun.seconds = 0.125
    bench.stepper.finish(flight)
    assert bench.measured == [(1, 0.125)]
