"""How tickets travel: together, to one replica, again if it dies, and never answered twice."""

import asyncio
import contextvars

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.dispatch.dispatcher import ATTEMPTS, SPREAD
from serving.dispatch.lanes import OPEN_CALLS, TICKETS_PER_CALL, WINDOW_S
from serving.metrics import GatewayMetrics, render
from serving.request import Refusal, Result
from tests.serving.dispatch.worlds import Engines, dispatcher, holding, row, rows
from tests.serving.test_affinity import ref, ticket
from tests.serving.virtual_time import run


def test_replies_come_back_in_the_order_of_the_tickets():
    async def main():
        engines = Engines(delays={"t1": 3.0, "t2": 1.0, "t3": 2.0})
        replies = await dispatcher(engines, "a").submit(rows("t1", "t2", "t3"), 10)
        assert [(type(r), r.ticket) for r in replies] == [(Result, "t1"), (Result, "t2"), (Result, "t3")]

    run(main())


def test_tickets_that_arrive_together_travel_together():
    async def main():
        engines = Engines()
        made = dispatcher(engines, "a")
        await asyncio.gather(*(made.submit(rows(f"t{i}"), 10) for i in range(20)))
        assert [len(ids) for _, _, ids in engines.calls] == [20]

    run(main())


def test_a_slow_ticket_does_not_hold_back_its_neighbour_in_the_call():
    async def main():
        loop = asyncio.get_running_loop()
        made = dispatcher(Engines(delays={"slow": 50.0, "quick": 0.5}), "a")
        began = loop.time()
        slow = asyncio.create_task(made.submit(rows("slow"), 100))
        await made.submit(rows("quick"), 100)
        assert loop.time() - began == pytest.approx(0.5)
        await slow

    run(main())


def test_with_many_calls_open_a_ticket_waits_for_company_but_not_for_an_answer():
    async def main():
        loop = asyncio.get_running_loop()
        engines = Engines(delays={f"slow{i}": 60.0 for i in range(OPEN_CALLS)})
        made = dispatcher(engines, "a")
        slow = []
        for i in range(OPEN_CALLS):
            slow.append(asyncio.create_task(made.submit(rows(f"slow{i}"), 100)))
            await asyncio.sleep(0.1)
        began = loop.time()
        await asyncio.gather(made.submit(rows("q1"), 100), made.submit(rows("q2"), 100))
        assert engines.calls[-1] == (pytest.approx(began + WINDOW_S), "a", ["q1", "q2"])
        await asyncio.gather(*slow)

    run(main())


def test_a_call_is_bounded_in_size():
    async def main():
        engines = Engines()
        await dispatcher(engines, "a").submit(rows(*(f"t{i}" for i in range(TICKETS_PER_CALL + 5))), 10)
        assert sorted(len(ids) for _, _, ids in engines.calls) == [5, TICKETS_PER_CALL]

    run(main())


def test_a_ticket_carries_the_time_that_is_left_when_it_is_sent():
    async def main():
        engines = Engines()
        made = dispatcher(engines)
        task = asyncio.create_task(made.submit(rows("t"), 10))
        await asyncio.sleep(4)
        made.observe({"a": holding("a")})
        await task
        assert engines.sent[0].deadline_ms == pytest.approx(6000)

    run(main())


def test_only_what_a_lost_replica_left_unanswered_is_sent_again():
    async def main():
        metrics = GatewayMetrics()
        engines = Engines(delays={"slow": 5.0})
        made = dispatcher(engines, "a", "b", metrics=metrics)
        made.observe({"a": holding("a", [ref("x").key]), "b": holding("b")})
        engines.deaths["a"] = asyncio.get_running_loop().time() + 1
        replies = await made.submit(rows("quick", "slow"), 30)
        assert [(r.ticket, r.replica) for r in replies] == [("quick", "a"), ("slow", "b")]
        assert [(replica, ids) for _, replica, ids in engines.calls] == [("a", ["quick", "slow"]), ("b", ["slow"])]
        assert made.replicas == ("b",)
        assert 'chorus_dispatch_retries_total{reason="replica_lost"} 1.0' in render(metrics.registry)
        assert "chorus_replicas_lost_total 1.0" in render(metrics.registry)
        made.check()

    run(main())


def test_rows_wait_for_a_replica_when_none_is_left():
    async def main():
        engines = Engines(delays={"t": 5.0})
        made = dispatcher(engines, "a")
        engines.deaths["a"] = asyncio.get_running_loop().time() + 1
        task = asyncio.create_task(made.submit(rows("t"), 30))
        await asyncio.sleep(3)
        made.check()
        assert not task.done()
        made.observe({"a2": holding("a2")})
        (reply,) = await task
        assert reply.replica == "a2"

    run(main())


def test_a_replica_that_is_leaving_is_not_believed():
    async def main():
        engines = Engines(refuse={"a": "not_ready"})
        made = dispatcher(engines, "a", "b")
        made.observe({"a": holding("a", [ref("x").key]), "b": holding("b")})
        (reply,) = await made.submit(rows("t"), 30)
        assert isinstance(reply, Result)
        assert [replica for _, replica, _ in engines.calls] == ["a", "b"]

    run(main())


def test_a_row_that_a_leaving_replica_gave_back_goes_on_at_once():
    class Leaving(Engines):
        async def call(self, replica, tickets):
            if replica != "a":
                async for group in super().call(replica, tickets):
                    yield group
                return
            self.calls.append((0.0, replica, [t.id for t in tickets]))
            yield tuple(Refusal(t.id, "not_ready", "leaving", "a") for t in tickets if t.id == "back")
            await asyncio.sleep(5.0)
            yield tuple(self.answer("a", t) for t in tickets if t.id != "back")

    async def main():
        loop = asyncio.get_running_loop()
        metrics = GatewayMetrics()
        made = dispatcher(Leaving(), "a", "b", metrics=metrics)
        made.observe({"a": holding("a", [ref("x").key]), "b": holding("b")})
        began = loop.time()
        kept = asyncio.create_task(made.submit(rows("kept"), 30))
        (reply,) = await made.submit(rows("back"), 30)
        assert (reply.replica, loop.time() - began < 1) == ("b", True)
        assert (await kept)[0].replica == "a", "what it runs it finishes"
        assert 'chorus_dispatch_retries_total{reason="replica_left"} 1.0' in render(metrics.registry)
        made.check()

    run(main())


def test_with_one_replica_that_is_leaving_a_row_waits_for_the_next():
    async def main():
        engines = Engines(refuse={"a": "not_ready"})
        made = dispatcher(engines, "a")
        task = asyncio.create_task(made.submit(rows("t"), 30))
        for _ in range(6):  # the fleet believes in it for some time
            await asyncio.sleep(1)
            made.observe({"a": holding("a")})
        assert not task.done()
        made.check()
        assert len(engines.calls) <= 7, "once each time that it is believed in"
        made.observe({"b": holding("b")})
        assert (await task)[0].replica == "b"

    run(main())


def test_a_replica_that_no_call_reaches_ran_nothing():
    async def main():
        engines = Engines(away={"a", "b"})
        made = dispatcher(engines, "a", "b", "c")
        replies = await made.submit(rows("t1", "t2"), 30)
        assert all(isinstance(reply, Result) for reply in replies)
        assert not made._suspects
        made.check()

    run(main())


def test_retries_end_with_their_budget_and_say_when_to_ask_again():
    async def main():
        metrics = GatewayMetrics()
        engines = Engines(deaf={"a"})
        made = dispatcher(engines, "a", metrics=metrics, max_flights=10)
        codes = [reply.code for _ in range(8) for reply in await made.submit(rows("t1", "t2"), 30)]
        assert codes[:4] == ["not_ready"] * 4, "each was tried as often as it may be"
        assert "retries_exhausted" in codes
        assert metrics.retries_denied._value.get() >= codes.count("retries_exhausted")
        (reply,) = await made.submit(rows("t"), 30)
        assert (reply.code, reply.retry_after) == ("retries_exhausted", 1.0)
        made.check()

    run(main())


def test_a_request_is_spread_over_two_replicas_at_most():
    async def main():
        engines = Engines()
        await dispatcher(engines, *"abcdef").submit(rows(*(f"t{i}" for i in range(200))), 30)
        assert len({replica for _, replica, _ in engines.calls}) == SPREAD

    run(main())


def test_a_replica_that_is_not_warm_gets_nothing_while_another_lives():
    async def main():
        engines = Engines()
        made = dispatcher(engines, "a")
        made.observe({"a": holding("a"), "b": holding("b", [ref("x").key], warm=False)})
        await made.submit(rows(*(f"t{i}" for i in range(100))), 30)
        assert {replica for _, replica, _ in engines.calls} == {"a"}
        engines.kill("a")
        (reply,) = await made.submit(rows("last"), 30)
        assert reply.replica == "b"

    run(main())


def test_replicas_that_are_gone_are_forgotten():
    async def main():
        engines = Engines()
        made = dispatcher(engines, "a")
        for number in range(5):
            here, there = f"a{number}", f"a{number + 1}"
            made.observe({here: holding(here)})
            assert isinstance((await made.submit(rows(f"t{number}"), 30))[0], Result)
            task = asyncio.create_task(made.submit([row(f"lost{number}", 1)], 30))
            await asyncio.sleep(0.001)
            engines.kill(here)
            made.observe({there: holding(there)})
            assert isinstance((await task)[0], Result)
        made.observe({"last": holding("last")})
        assert (set(made._waiting), made._lost) == (set(), set())

    run(main())


def test_other_refusals_of_a_replica_are_the_answer():
    async def main():
        engines = Engines(refuse={"a": "adapter_load_failed"})
        (reply,) = await dispatcher(engines, "a").submit(rows("t"), 30)
        assert (reply.code, len(engines.calls)) == ("adapter_load_failed", 1)

    run(main())


@pytest.mark.parametrize("fault", ["error", "silence"])
def test_a_faulty_call_is_tried_again_and_then_refused(fault):
    async def main():
        engines = Engines(error=ValueError("a bug")) if fault == "error" else Engines(deaf={"a"})
        made = dispatcher(engines, "a")
        (reply,) = await made.submit(rows("t"), 30)
        assert (reply.code, len(engines.calls)) == ("not_ready", ATTEMPTS)
        made.check()

    run(main())


def test_the_deadline_refuses_and_cancels():
    async def main():
        loop = asyncio.get_running_loop()
        engines = Engines(delays={"slow": 60.0})
        made = dispatcher(engines, "a")
        began = loop.time()
        quick, slow = await made.submit(rows("quick", "slow"), 2)
        assert isinstance(quick, Result)
        assert (slow.code, slow.ticket) == ("deadline_exceeded", "slow")
        assert loop.time() - began == pytest.approx(2)
        await asyncio.sleep(0.001)
        assert engines.cancelled == [("a", ["slow"])]
        made.check()

    run(main())


def test_a_caller_who_goes_away_cancels_only_its_own_rows():
    async def main():
        engines = Engines(delays={"mine": 5.0, "yours": 5.0})
        made = dispatcher(engines, "a")
        mine = asyncio.create_task(made.submit(rows("mine"), 30))
        yours = asyncio.create_task(made.submit(rows("yours"), 30))
        await asyncio.sleep(1)
        mine.cancel()
        (reply,) = await yours
        assert isinstance(reply, Result)
        assert mine.cancelled()
        assert engines.cancelled == [("a", ["mine"])]
        assert len(engines.calls) == 1
        made.check()

    run(main())


def test_a_cancel_to_a_dead_replica_is_no_error():
    async def main():
        engines = Engines(delays={"t": 5.0}, deaths={"a": asyncio.get_running_loop().time() + 2})
        made = dispatcher(engines, "a")
        await made.submit(rows("t"), 3)
        await asyncio.sleep(1)
        assert made.replicas == ()
        made.check()

    run(main())


def test_too_many_rows_are_refused_at_the_door():
    async def main():
        engines = Engines()
        made = dispatcher(engines, "a", max_flights=3)
        first = asyncio.create_task(made.submit(rows("t1", "t2"), 10))
        await asyncio.sleep(0)
        refused = await made.submit(rows("t3", "t4"), 10)
        assert [(r.ticket, r.code, r.retry_after) for r in refused] == [
            ("t3", "overloaded", 1.0),
            ("t4", "overloaded", 1.0),
        ]
        assert all(isinstance(r, Result) for r in await first)
        assert all(isinstance(r, Result) for r in await made.submit(rows("t3", "t4"), 10))

    run(main())


def test_an_id_may_be_on_its_way_once():
    async def main():
        made = dispatcher(Engines(), "a")
        with pytest.raises(ValueError, match="on its way"):
            await made.submit(rows("t", "t"), 10)
        made.check()

    run(main())


def test_no_tickets_need_no_engine():
    async def main():
        assert list(await dispatcher(Engines()).submit([], 10)) == []

    run(main())


def test_closing_refuses_what_is_on_its_way():
    async def main():
        made = dispatcher(Engines(delays={"t": 50.0}), "a")
        task = asyncio.create_task(made.submit(rows("t"), 100))
        await asyncio.sleep(1)
        await made.close()
        assert [r.code for r in await task] == ["not_ready"]
        assert [r.code for r in await made.submit(rows("u"), 100)] == ["not_ready"]
        made.check()

    run(main())


def test_a_call_does_not_run_in_the_context_of_a_request():
    request = contextvars.ContextVar("request", default="nobody's")
    seen = []

    class Watching(Engines):
        async def call(self, replica, tickets):
            seen.append(request.get())
            async for group in super().call(replica, tickets):
                yield group

    async def main():
        request.set("mine")
        await dispatcher(Watching(), "a").submit(rows("t"), 10)
        assert seen == ["nobody's"]

    run(main())


moments = st.floats(0.0, 20.0)
requests = st.lists(
    st.tuples(
        moments, st.lists(st.floats(0.0, 30.0), min_size=1, max_size=5), st.floats(0.1, 25.0), st.none() | moments
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(requests, st.lists(st.tuples(moments, st.sampled_from("abc")), max_size=6), st.lists(moments, max_size=4))
def test_every_ticket_gets_exactly_one_reply_whatever_dies(requests, deaths, revivals):
    """Requests arrive, replicas die and come back, callers go away; the books balance at every moment."""

    async def main():
        loop = asyncio.get_running_loop()
        engines = Engines()
        made = dispatcher(engines, *"abc")
        answered = []

        async def request(number, start, delays, patience, leave):
            await asyncio.sleep(start)
            tickets = [ticket(f"x{number % 3}", ident=f"{number}-{i}") for i in range(len(delays))]
            engines.delays.update({t.id: delay for t, delay in zip(tickets, delays, strict=True)})
            began = loop.time()
            task = asyncio.create_task(made.submit(tickets, patience))
            if leave is not None:
                loop.call_later(leave, task.cancel)
            try:
                replies = await task
            except asyncio.CancelledError:
                return
            assert [r.ticket for r in replies] == [t.id for t in tickets]
            assert loop.time() <= began + patience + 1e-6
            answered.extend(r.ticket for r in replies)

        async def die(when, replica):
            await asyncio.sleep(when)
            engines.kill(replica)
            made.check()

        async def revive(when):
            await asyncio.sleep(when)
            engines.deaths.clear()
            made.observe({replica: holding(replica) for replica in "abc"})
            made.check()

        await asyncio.gather(
            *(request(number, *values) for number, values in enumerate(requests)),
            *(die(*values) for values in deaths),
            *(revive(when) for when in revivals),
        )
        assert len(answered) == len(set(answered))
        made.check()
        await made.close()
        assert not made._flights
        assert not +made._waiting

    run(main())
