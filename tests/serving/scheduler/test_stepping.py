"""A batch through the machine: every row has one outcome."""

from serving.request import Refusal, Result
from serving.scheduler.stepping import Stepper
from serving.scheduler.waiting import Picked, Waiting
from tests.serving.scheduler.machine import Clock, Machine, ticket


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
