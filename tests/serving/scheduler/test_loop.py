"""The loop: every ticket is answered exactly once, whatever happens to it."""

import threading

import pytest

from serving.metrics import EngineMetrics, render
from serving.request import Result, TenantLine
from serving.scheduler.batcher import Budget
from serving.scheduler.loop import Loop
from serving.scheduler.pace import Pace
from serving.scheduler.queue import FairQueue
from tests.serving.readings import counts
from tests.serving.scheduler.machine import SIZE, Clock, Machine, Step, ref, ticket

WAIT = 20  # seconds until a test gives up
BUDGET = Budget(8, 64, 100 * SIZE)


@pytest.fixture(autouse=True, params=[False, True], ids=["on the thread", "by itself"])
def overlaps(request, monkeypatch):
    """The same holds for a machine that computes on the forward thread and for one that computes by itself."""
    monkeypatch.setattr(Machine, "overlaps", request.param)
    return request.param


@pytest.fixture
def by_itself(overlaps, monkeypatch):
    monkeypatch.setattr(Machine, "overlaps", True)


class Bench:
    """A loop over the fake machine, driven by hand."""

    def __init__(self, room=100, budget=BUDGET, max_queued=100):
        self.clock = Clock()
        self.machine = Machine(room)
        self.metrics = EngineMetrics(counts)
        queue, pace = FairQueue(2, max_queued, self.clock), Pace(2, 0.05)
        self.loop = Loop(self.machine, queue, budget, pace, metrics=self.metrics, replica="r", clock=self.clock)
        self.calls = []

    def submit(self, *tickets):
        self.loop.submit(tickets, self.calls.append)

    def turn(self):
        """One round, and what it left in the machine."""
        self.loop.turn()
        self.loop._land(0)

    def run(self):
        while self.loop.turn():
            pass
        assert self.loop.check() == ()

    @property
    def replies(self):
        return {reply.ticket: reply for call in self.calls for reply in call}

    @property
    def outcomes(self):
        return {name: "ok" if isinstance(r, Result) else r.code for name, r in self.replies.items()}


def test_tickets_of_different_tenants_share_a_step_and_each_caller_gets_one_group():
    bench = Bench()
    other = []
    bench.submit(ticket("a0"), ticket("a1"))
    bench.loop.submit([ticket("b0", "b")], other.append)
    bench.run()
    assert sorted(bench.machine.batches[0]) == ["a0", "a1", "b0"]
    assert [[reply.ticket for reply in call] for call in bench.calls] == [["a0", "a1"]]
    assert [[reply.ticket for reply in call] for call in other] == [["b0"]]


def test_a_cold_adapter_never_holds_back_its_neighbours():
    bench = Bench()
    bench.submit(ticket("cold", adapters=["x"]), ticket("warm"))
    bench.run()
    assert bench.outcomes == {"warm": "ok"}
    assert bench.machine.loading == [ref("x")]
    bench.clock.now += 2
    bench.machine.load()
    bench.run()
    assert bench.outcomes == {"warm": "ok", "cold": "ok"}
    assert bench.replies["cold"].timing.load == 2000


def test_adapters_of_the_next_batch_are_asked_for_while_this_one_runs():
    bench = Bench(budget=Budget(1, 64, SIZE))
    seen = []
    bench.machine.during = lambda: seen.append(list(bench.machine.loading))
    bench.submit(ticket("now"), ticket("next", adapters=["x"]))
    bench.run()
    assert seen == [[ref("x")]]


def test_what_is_asked_for_can_not_take_the_running_batchs_adapters():
    bench = Bench(room=1)
    bench.machine.resident[ref("x")] = None
    bench.machine.during = lambda: bench.machine.load(5)
    bench.submit(ticket("t0", adapters=["x"]), ticket("t1", adapters=["y"]))
    bench.turn()
    assert bench.outcomes == {"t0": "ok"}
    assert list(bench.machine.resident) == [ref("x")]


def test_only_the_row_at_fault_fails():
    bench = Bench()
    bench.machine.poison = {"t3"}
    bench.submit(*(ticket(f"t{i}") for i in range(8)))
    bench.run()
    assert bench.outcomes == {f"t{i}": "engine_failed" if i == 3 else "ok" for i in range(8)}
    assert bench.machine.attempts == 7


def test_rows_that_a_step_refuses_cost_no_second_step_and_are_paid_by_their_tenant():
    bench = Bench()
    bench.machine.refused = {"bad0", "bad1"}
    bench.submit(ticket("good"), ticket("cold0", adapters=["x"]))
    bench.submit(ticket("bad0", "b"), ticket("bad1", "b"), ticket("cold1", "b", adapters=["x"]))
    bench.run()
    assert bench.outcomes == {"good": "ok", "bad0": "invalid_arrangement", "bad1": "invalid_arrangement"}
    assert bench.machine.attempts == 1
    text = render(bench.metrics.registry)
    assert "chorus_rows_total 1.0" in text
    assert 'chorus_engine_failures_total{reason="invalid_arrangement"} 2.0' in text
    bench.submit(ticket("next"))
    assert [row.ticket.id for row in bench.loop._queue.upcoming(2)] == ["cold0", "next"]  # `b` had two rows, `a` one


def test_a_step_that_forgets_a_row_is_a_failure_and_not_a_silence(monkeypatch):
    bench = Bench()
    finish = Step.finish
    monkeypatch.setattr(Step, "finish", lambda step: finish(step)[:1] if len(step.rows) > 1 else finish(step))
    bench.submit(ticket("t0"), ticket("t1"))
    bench.run()
    assert bench.outcomes == {"t0": "ok", "t1": "ok"}


def test_adapters_that_can_not_be_had_refuse_their_rows_only():
    bench = Bench()
    bench.machine.broken = {ref("bad")}
    bench.submit(ticket("t0", adapters=["bad"]), ticket("t1", adapters=["good"]))
    bench.run()
    assert bench.outcomes == {"t0": "adapter_load_failed"}
    bench.machine.load(2)
    bench.run()
    assert bench.outcomes["t1"] == "ok"


def test_a_row_whose_adapters_left_before_the_lease_comes_back():
    bench = Bench()
    bench.machine.leaving = {"t0"}
    bench.submit(ticket("t0"), ticket("t1"))
    bench.run()
    assert bench.machine.batches == [["t1"], ["t0"]]
    assert bench.outcomes == {"t0": "ok", "t1": "ok"}


def test_rows_whose_deadline_passed_are_not_run():
    bench = Bench()
    bench.submit(ticket("late", deadline_ms=500), ticket("fine"))
    bench.clock.now += 1
    bench.run()
    assert bench.outcomes == {"late": "deadline_exceeded", "fine": "ok"}
    assert bench.machine.batches == [["fine"]]


def test_a_cancelled_row_is_not_run_and_a_running_one_is_answered():
    bench = Bench()
    bench.submit(ticket("gone"))
    bench.loop.cancel(["gone", "unknown"])
    assert bench.outcomes == {"gone": "deadline_exceeded"}
    bench.machine.during = lambda: bench.loop.cancel(["runs"])
    bench.submit(ticket("runs"))
    bench.run()
    assert bench.outcomes["runs"] == "ok"
    assert bench.machine.batches == [["runs"]]


def test_a_row_that_was_cancelled_while_it_ran_does_not_wait_again():
    bench = Bench()
    bench.machine.leaving = {"t0", "t1"}
    bench.machine.during = lambda: bench.loop.cancel(iter(["t0", "unknown"]))
    bench.submit(ticket("t0"), ticket("t1"), ticket("b0", "b"))
    bench.turn()
    assert bench.outcomes == {"t0": "deadline_exceeded", "b0": "ok"}
    assert bench.loop._queue._virtual["a"] == 0, "what did not run is not paid"
    bench.run()
    assert bench.outcomes == {"t0": "deadline_exceeded", "t1": "ok", "b0": "ok"}
    assert bench.machine.batches == [["b0"], ["t1"]]


def test_a_thread_that_dies_in_a_step_gives_its_rows_back_and_refuses_the_rest(monkeypatch, overlaps):
    bench, died = Bench(budget=Budget(2, 64, SIZE)), []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_type))

    def stepped(**_):
        raise ValueError("a bug in the books")

    bench.metrics.stepped = stepped
    bench.submit(*(ticket(f"t{i}") for i in range(5)))
    bench.loop.start()
    bench.loop._thread.join(WAIT)
    assert died == [ValueError] and bench.loop.load == (0, 0)
    assert bench.outcomes == {f"t{i}": "engine_broken" if i < 2 + 2 * overlaps else "not_ready" for i in range(5)}
    assert bench.loop.drain(0.0), "everything is answered"
    bench.submit(ticket("late"))
    assert bench.outcomes["late"] == "not_ready" and bench.loop.drain(0.0)


def test_answers_leave_though_counting_them_fails(monkeypatch):
    bench = Bench()
    bench.machine.refused = {"t0"}
    monkeypatch.setattr(bench.metrics.refusals, "labels", lambda code: 1 / 0)
    bench.submit(ticket("t0"), ticket("t1"))
    with pytest.raises(ZeroDivisionError):
        bench.turn()
    assert bench.outcomes == {"t0": "invalid_arrangement", "t1": "ok"}


def test_a_ticket_that_waits_or_runs_can_not_be_sent_again():
    bench = Bench()
    again = []
    bench.machine.during = lambda: bench.loop.submit([ticket("t")], again.append)
    bench.submit(ticket("t"))
    bench.loop.submit([ticket("t")], again.append)
    bench.run()
    assert bench.outcomes == {"t": "ok"}
    assert [reply.code for (reply,) in again] == ["conflict", "conflict"]


def test_a_full_queue_refuses_the_longest_line():
    bench = Bench(max_queued=2)
    bench.submit(ticket("a0"), ticket("a1"), ticket("a2"))
    bench.submit(ticket("b0", "b"))
    assert bench.outcomes == {"a2": "overloaded", "a1": "overloaded"}
    assert bench.replies["a2"].retry_after > 0
    bench.run()
    assert bench.outcomes == {"a0": "ok", "a1": "overloaded", "a2": "overloaded", "b0": "ok"}


def test_what_a_row_misses_is_asked_for_when_it_comes_and_not_a_step_later():
    bench = Bench()
    bench.submit(ticket("t0", adapters=["x"]), ticket("t1", "b", adapters=["y"]))
    assert bench.machine.asked == [("a", (ref("x"),)), ("b", (ref("y", "b"),))]
    bench.machine.load(2)
    bench.run()
    assert bench.machine.batches == [["t0", "t1"]]


def test_a_loop_ends_with_the_step_that_broke_its_machine_and_refuses_the_rest_as_on_its_way_out(overlaps):
    bench = Bench()
    bench.machine.fatal = {"t3"}
    bench.submit(*(ticket(f"t{i}") for i in range(20)))
    bench.loop.start()
    bench.loop._thread.join(WAIT)
    begun = BUDGET.rows * (1 + overlaps)
    run = {f"t{i}": "engine_broken" for i in range(begun)}
    assert bench.outcomes == run | {f"t{i}": "not_ready" for i in range(begun, 20)}
    assert not bench.loop.alive and bench.loop.draining
    bench.submit(ticket("late"))
    assert bench.outcomes["late"] == "not_ready"


def test_a_draining_loop_takes_nothing_new_and_finishes_what_is_here():
    bench = Bench()
    bench.submit(ticket("here", adapters=["x"]))
    assert not bench.loop.drain(0.0)
    bench.submit(ticket("new"))
    assert bench.outcomes == {"new": "not_ready"}
    bench.machine.load()
    bench.run()
    assert bench.outcomes == {"new": "not_ready", "here": "ok"}
    assert bench.loop.drain(0.0)
    assert bench.loop.draining


def test_a_drain_ends_when_the_last_row_is_answered_or_cancelled():
    bench = Bench()
    bench.loop.start()
    bench.submit(ticket("stuck", adapters=["never"]), ticket("fine"))
    waiting = threading.Thread(target=lambda: bench.calls.append((bench.loop.drain(WAIT),)), daemon=True)
    waiting.start()
    bench.loop.cancel(["stuck"])
    waiting.join(WAIT)
    drained = [call for call in bench.calls if call == (True,)]
    bench.loop.close()
    assert drained == [(True,)]


def test_steps_are_bounded_by_what_the_machine_does_in_the_wanted_time():
    bench = Bench(budget=Budget(100, 10_000, 100 * SIZE))

    def pass_time():
        bench.clock.now += 0.01 * len(bench.machine.leased or [1])

    bench.machine.during = pass_time
    bench.submit(ticket("t0", tokens=8))
    bench.run()
    assert bench.loop.rate == pytest.approx(8 * 2 / 0.01)
    bench.submit(*(ticket(f"x{i}", tokens=8) for i in range(20)))
    bench.turn()
    assert len(bench.machine.batches[1]) in (4, 5)  # 0.05 s of work, give or take a rounding


def test_the_deadline_is_looked_at_again_right_before_the_step():
    bench = Bench()
    bench.submit(ticket("t0", deadline_ms=500), ticket("t1"), ticket("b0", "b"))
    ready = bench.machine.ready

    def slow(refs):
        bench.clock.now += 1.0
        return ready(refs)

    bench.machine.ready = slow
    bench.turn()
    assert bench.outcomes == {"t0": "deadline_exceeded", "t1": "ok", "b0": "ok"}
    assert bench.machine.batches == [["b0", "t1"]]
    assert bench.loop._queue._virtual["a"] == 2 * 4, "what did not run is not paid"


def test_the_queue_is_told_by_tenant_the_costliest_first():
    bench = Bench()
    bench.loop.share({"b": 2.0})
    bench.submit(*(ticket(f"a{i}", tokens=2, adapters=["x"]) for i in range(3)), ticket("c", "c", adapters=["y"]))
    bench.submit(ticket("b0", "b", tokens=50, adapters=["x"]))
    assert bench.loop.lines(2) == (120, 3, (TenantLine("b", 1, 100, 2.0), TenantLine("a", 3, 12, 1.0)))
    bench.run()
    text = render(bench.metrics.registry)
    assert "chorus_loading_rows 5.0" in text and "chorus_queued_cost 120.0" in text


def test_what_was_served_is_counted_by_tenant():
    bench = Bench()
    bench.submit(ticket("a0", tokens=3), ticket("a1", tokens=4), ticket("b0", "b", tokens=5))
    bench.run()
    text = render(bench.metrics.registry)
    assert 'chorus_tenant_served_rows_total{tenant="a"} 2.0' in text
    assert 'chorus_tenant_served_cost_total{tenant="a"} 14.0' in text
    assert 'chorus_tenant_served_cost_total{tenant="b"} 10.0' in text


def test_closing_refuses_what_waits_and_what_comes():
    bench = Bench()
    bench.submit(ticket("t0", adapters=["cold"]))
    bench.loop.close()
    bench.submit(ticket("t1"))
    assert bench.outcomes == {"t0": "not_ready", "t1": "not_ready"}
    bench.loop.close()
    assert len(bench.calls) == 2


def test_loads_are_paid_by_the_tenant_that_caused_them():
    bench = Bench(budget=Budget(1, 64, SIZE))
    charged = []
    charge = bench.loop._queue.charge
    bench.loop._queue.charge = lambda tenant, moved: (charged.append((tenant, moved)), charge(tenant, moved))
    bench.submit(ticket("t0", adapters=["x"]))
    bench.run()
    bench.machine.load()
    bench.run()
    assert charged == [("a", {ref("x"): SIZE})]


def test_steps_and_refusals_are_counted():
    bench = Bench()
    bench.machine.poison = {"t1"}
    bench.submit(ticket("t0", tokens=5), ticket("t1"), ticket("t2", tokens=3))
    bench.run()
    text = render(bench.metrics.registry)
    assert "chorus_rows_total 2.0" in text
    assert "chorus_tokens_total 8.0" in text
    assert 'chorus_engine_failures_total{reason="engine_failed"} 1.0' in text
    assert "chorus_queue_seconds_count 2.0" in text


def test_the_thread_answers_and_stops():
    bench = Bench()
    done = threading.Event()
    replies = []

    def sink(group):
        replies.extend(group)
        if len(replies) == 20:
            done.set()

    bench.loop.start()
    assert bench.loop.alive
    for i in range(20):
        bench.loop.submit([ticket(f"t{i}")], sink)
    assert done.wait(WAIT)
    bench.loop.close()
    assert not bench.loop.alive
    assert sorted(reply.ticket for reply in replies) == sorted(f"t{i}" for i in range(20))


def test_a_load_that_ends_wakes_the_thread():
    bench = Bench()
    done, asked = threading.Event(), threading.Event()
    prefetch = bench.machine.prefetch
    bench.machine.prefetch = lambda *asking: (prefetch(*asking), asked.set())
    bench.loop.start()
    bench.loop.submit([ticket("t", adapters=["x"])], lambda group: done.set())
    assert asked.wait(WAIT)
    bench.machine.load()
    bench.loop.poke()
    assert done.wait(WAIT)
    bench.loop.close()


def test_a_store_that_forgot_is_asked_again():
    bench = Bench()
    done, asked = threading.Event(), []

    def prefetch(refs, tenant):
        asked.append(refs)
        if len(asked) == 2:
            bench.machine.resident |= dict.fromkeys(refs)

    bench.machine.prefetch = prefetch
    bench.loop.start()
    bench.loop.submit([ticket("t", adapters=["x"])], lambda group: done.set())
    assert done.wait(WAIT)
    bench.loop.close()


def test_a_poke_between_the_look_and_the_sleep_is_not_lost():
    bench = Bench()
    bench.loop.poke()
    sleeper = threading.Thread(target=bench.loop._sleep, daemon=True)
    sleeper.start()
    sleeper.join(WAIT)
    assert not sleeper.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_of_a_bug_leaves_nobody_waiting():
    bench = Bench()
    done = threading.Event()

    def broken(refs):
        raise RuntimeError("a bug in the cache")

    bench.machine.ready = broken
    bench.loop.submit([ticket("t")], lambda group: (bench.calls.append(group), done.set()))
    bench.loop.start()
    assert done.wait(WAIT)
    bench.loop._thread.join(WAIT)
    assert bench.outcomes == {"t": "not_ready"}
    assert not bench.loop.alive


def told(bench):
    """A loop whose machine writes down what it is asked: tickets that began, and those that were finished."""
    told, begin, finish = [], bench.machine.begin, Step.finish

    def begins(rows, meanwhile):
        step = begin(rows, meanwhile)
        told.append(("begin", [row.waiting.ticket.id for row in rows]))
        step.finish = lambda: (told.append(("finish", [row.waiting.ticket.id for row in rows])), finish(step))[1]
        return step

    bench.machine.begin = begins
    return told


def test_the_next_batch_begins_before_the_last_one_is_finished_if_the_machine_computes_by_itself(overlaps):
    bench = Bench(budget=Budget(1, 64, SIZE))
    seen = told(bench)
    bench.submit(*(ticket(name) for name in "abc"))
    bench.run()
    begins, ends = ([(what, [name]) for name in "abc"] for what in ("begin", "finish"))
    if overlaps:
        assert seen == [begins[0], begins[1], ends[0], begins[2], ends[1], ends[2]]
    else:
        assert seen == [begins[0], ends[0], begins[1], ends[1], begins[2], ends[2]]
    assert bench.outcomes == dict.fromkeys("abc", "ok")


def test_adapters_of_two_batches_in_the_machine_stay_and_those_of_the_third_are_asked_for(by_itself):
    bench = Bench(room=2, budget=Budget(1, 64, SIZE))
    for name in "xy":
        bench.machine.resident[ref(name)] = None
    bench.submit(*(ticket(f"t{name}", adapters=[name]) for name in "xyz"))
    bench.loop.turn()
    bench.loop.turn()
    assert bench.outcomes == {"tx": "ok"}
    assert bench.loop.load == (1, 1)
    assert bench.machine.loading == [ref("z")]
    bench.machine.load()
    assert set(bench.machine.resident) == {ref("y"), ref("z")}
    bench.run()
    assert bench.outcomes == dict.fromkeys(("tx", "ty", "tz"), "ok")


def test_a_row_whose_adapters_left_comes_back_beside_a_batch_in_the_machine(by_itself):
    bench = Bench(budget=Budget(1, 64, SIZE))
    bench.machine.leaving = {"b"}
    bench.submit(ticket("a"), ticket("b"), ticket("c", "other"))
    bench.run()
    assert bench.outcomes == dict.fromkeys("abc", "ok")


def test_a_batch_that_raises_costs_the_one_behind_it_nothing(by_itself):
    bench = Bench(budget=Budget(2, 64, SIZE))
    bench.machine.poison = {"bad"}
    bench.submit(*(ticket(name) for name in ("fine", "bad", "next", "last")))
    bench.run()
    assert bench.outcomes == {"fine": "ok", "bad": "engine_failed", "next": "ok", "last": "ok"}


def test_a_row_that_runs_is_answered_though_it_is_cancelled_and_one_behind_it_too(by_itself):
    bench = Bench(budget=Budget(1, 64, SIZE))
    bench.machine.leaving = {"b"}
    bench.submit(ticket("a"), ticket("b"))
    bench.loop.turn()
    orders = [["a", "b"]]
    bench.machine.during = lambda: bench.loop.cancel(orders.pop() if orders else [])
    bench.run()
    assert bench.outcomes == {"a": "ok", "b": "deadline_exceeded"}
    assert bench.loop._cancelled == set()


def test_a_loop_that_closes_answers_all_that_is_in_the_machine(by_itself):
    bench = Bench(budget=Budget(1, 64, SIZE))
    begun, go = threading.Event(), threading.Event()

    def hold():
        begun.set()
        assert go.wait(WAIT)

    bench.machine.during = hold
    bench.submit(*(ticket(name) for name in "abc"))
    bench.loop.start()
    assert begun.wait(WAIT)
    closing = threading.Thread(target=bench.loop.close)
    closing.start()
    while bench.loop.alive:
        pass
    go.set()
    closing.join(WAIT)
    assert bench.outcomes == {"a": "ok", "b": "ok", "c": "not_ready"}
    assert bench.loop.drain(0.0)


def test_a_drain_waits_for_what_is_in_the_machine(by_itself):
    bench = Bench()
    bench.submit(ticket("a"))
    bench.loop.turn()
    assert bench.loop.load == (0, 1)
    assert not bench.loop.drain(0.0)
    assert bench.loop.turn()
    assert bench.loop.drain(0.0)
    assert not bench.loop.turn()
