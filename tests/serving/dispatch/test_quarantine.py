"""Rows that kill: found after two replicas at most, at nobody else's expense, by however many gateways."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.dispatch.quarantine import HOLD_S
from serving.dispatch.suspects import REMEMBERED_S
from serving.metrics import GatewayMetrics, render
from serving.request import Result
from tests.serving.dispatch.worlds import Engines, Gateways, dispatcher, holding, row
from tests.serving.virtual_time import run

POISON = 666
PATIENCE = 30


def poisoned(**options) -> Engines:
    return Engines(poison={POISON}, **options)


def right(replies) -> bool:
    return all(isinstance(reply, Result) for reply in replies)


async def crowd(made, numbers, *, name="t", each=1):
    """The numbers as rows of requests of their own; their replies by number."""
    tasks = [made.submit([row(f"{name}{n}-{i}", n) for i in range(each)], PATIENCE) for n in numbers]
    return dict(zip(numbers, await asyncio.gather(*tasks), strict=True))


def test_poison_among_63_innocents_costs_two_engines_and_no_innocent():
    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"abcd")
        replies = await crowd(made, [*range(1, 64), POISON])
        assert [reply.code for reply in replies.pop(POISON)] == ["poisonous_request"]
        assert all(right(reply) for reply in replies.values())
        assert len(engines.dead) == 2
        made.check()

    run(main())


def test_a_second_try_of_the_poison_is_refused_at_the_door():
    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"abcd")
        await crowd(made, [POISON])
        calls = len(engines.calls)
        again = await made.submit([row("again", POISON), row("beside", 1)], PATIENCE)
        assert [reply.code for reply in again] == ["poisonous_request", "poisonous_request"], "a request has one fate"
        assert len(engines.calls) == calls
        assert right(await made.submit([row("alone", 1)], PATIENCE))
        made.check()

    run(main())


def test_other_rows_of_the_poisonous_request_are_not_tried_after_it():
    async def main():
        engines = Engines(poison={POISON, POISON + 1, POISON + 2})
        made = dispatcher(engines, *"abcdef")
        replies = await made.submit([row(f"p{i}", POISON + i) for i in range(3)], PATIENCE)
        assert {reply.code for reply in replies} == {"poisonous_request"}
        assert len(engines.dead) == 2
        made.check()

    run(main())


def test_a_large_poisonous_request_is_not_spread_over_all_engines():
    async def main():
        engines = Engines(poison=set(range(1000, 1400)))
        made = dispatcher(engines, *"abcdef")
        replies = await made.submit([row(f"p{i}", 1000 + i) for i in range(400)], PATIENCE)
        assert {reply.code for reply in replies} == {"poisonous_request"}
        assert len(engines.dead) == 2
        made.check()

    run(main())


@pytest.mark.parametrize("count", [2, 3])
def test_gateways_question_one_suspect_at_a_time_between_them(count):
    async def main():
        engines, gateways = poisoned(), Gateways()
        made = [dispatcher(engines, *"abcd", gateways=gateways, name=f"g{i}") for i in range(count)]
        numbers = [list(range(100 * i, 100 * i + 32)) for i in range(1, count + 1)]
        numbers[0].append(POISON)
        found = await asyncio.gather(
            *(crowd(m, n, name=f"g{i}") for i, (m, n) in enumerate(zip(made, numbers, strict=True)))
        )
        assert [reply.code for reply in found[0].pop(POISON)] == ["poisonous_request"]
        assert all(right(reply) for replies in found for reply in replies.values())
        assert len(engines.dead) == 2
        for gateway in made:
            gateway.check()
            (reply,) = await gateway.submit([row("again", POISON)], PATIENCE)
            assert reply.code == "poisonous_request", "every gateway knows"
        assert len(engines.dead) == 2

    run(main())


def test_two_clients_with_one_poison_on_two_gateways_cost_two_engines():
    async def main():
        for lag in (0.0, 0.001, 0.005, 0.01, 0.02, 0.1):
            engines, gateways = poisoned(), Gateways()
            one, two = (dispatcher(engines, *"abcdef", gateways=gateways, name=name) for name in ("g1", "g2"))
            two.observe({replica: holding(replica) for replica in "def"})  # elsewhere, as affinity may have it

            async def later(made=two, wait=lag):
                await asyncio.sleep(wait)
                return await crowd(made, [POISON, *range(10, 20)], name="two")

            first, second = await asyncio.gather(crowd(one, [POISON, *range(20)], name="one"), later())
            assert [r.code for r in (*first.pop(POISON), *second.pop(POISON))] == ["poisonous_request"] * 2
            assert all(right(reply) for replies in (first, second) for reply in replies.values()), lag
            assert len(engines.dead) == 2, lag

    run(main())


def test_a_client_that_hangs_up_and_comes_again_takes_no_third_engine():
    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"abcdef")
        codes = []
        for i in range(6):  # each gives up before its row has killed anybody, so that nobody ever reads an answer
            task = asyncio.create_task(made.submit([row(f"t{i}", POISON)], PATIENCE))
            await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.sleep(1)
            if not task.cancelled():
                codes.append(task.result()[0].code)
        assert len(engines.dead) == 2
        assert set(codes) == {"poisonous_request"}
        made.check()

    run(main())


def test_a_killed_replica_costs_nobody_an_answer():
    async def main():
        metrics = GatewayMetrics()
        loop = asyncio.get_running_loop()
        engines = Engines(delays={f"t{n}-0": 0.05 for n in range(64)})
        made = dispatcher(engines, "a", "b", metrics=metrics)
        engines.deaths["a"] = loop.time() + 0.02
        replies = await crowd(made, range(64))
        assert all(right(reply) for reply in replies.values())
        assert 'chorus_dispatch_retries_total{reason="replica_lost"}' in render(metrics.registry)
        made.check()

    run(main())


@pytest.mark.parametrize(
    "code", ["adapter_load_failed", "storage_unavailable", "out_of_room", "overloaded", "conflict"]
)
def test_a_refusal_of_a_row_that_was_never_run_clears_no_suspect(code):
    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"ab")
        task = asyncio.create_task(made.submit([row("first", POISON)], PATIENCE))
        await asyncio.sleep(0.005)
        engines.refuse = {"a": code, "b": code}
        (on_board,) = {replica for _, replica, _ in engines.calls}
        del engines.refuse[on_board]  # where it kills; the other one has no room for what it needs
        (reply,) = await task
        assert (reply.code, len(engines.dead)) == (code, 1)
        engines.refuse = {}
        made.observe({replica: holding(replica) for replica in {*"abcd"} - engines.dead})
        codes = [(await made.submit([row(f"again{i}", POISON)], PATIENCE))[0].code for i in range(3)]
        assert (set(codes), len(engines.dead)) == ({"poisonous_request"}, 2)
        made.check()

    run(main())


def test_a_row_that_fails_alone_on_an_engine_that_lives_is_cleared():
    async def main():
        engines = Engines(refuse={"b": "engine_failed"})
        made = dispatcher(engines, "a")
        task = asyncio.create_task(made.submit([row("t", 1)], PATIENCE))
        await asyncio.sleep(0.005)
        engines.kill("a")
        made.observe({"b": holding("b")})
        assert (await task)[0].code == "engine_failed"
        assert not made._suspects.any_suspected

    run(main())


def test_a_row_that_leaves_engines_alive_and_broken_takes_no_more_of_them_than_one_that_kills():
    async def main():
        metrics = GatewayMetrics()
        engines = Engines(fatal={POISON})
        made = dispatcher(engines, *"abcd", metrics=metrics)
        replies = await crowd(made, [*range(1, 64), POISON])
        assert [reply.code for reply in replies.pop(POISON)] == ["poisonous_request"]
        assert all(right(reply) for reply in replies.values())
        assert (len(engines.broken), metrics.replicas_lost._value.get()) == (2, 2)
        made.check()

    run(main())


def test_ordinary_rows_do_not_wait_for_the_suspects():
    async def main():
        loop = asyncio.get_running_loop()
        engines = Engines(delays={f"t{n}-0": 1.0 for n in range(8)})
        made = dispatcher(engines, "a", "b")
        suspects = asyncio.create_task(crowd(made, range(8)))
        await asyncio.sleep(0.1)
        engines.kill(engines.calls[0][1])
        await asyncio.sleep(0.5)
        began = loop.time()
        assert right(await made.submit([row("ordinary", 99)], PATIENCE))
        assert loop.time() - began < 0.1
        assert all(right(reply) for reply in (await suspects).values())

    run(main())


def test_an_answered_copy_clears_all_its_copies():
    async def main():
        loop = asyncio.get_running_loop()
        engines = Engines(deaths={"a": loop.time() + 0.005})
        made = dispatcher(engines, "a")
        first = asyncio.create_task(made.submit([row(f"t{i}", 7) for i in range(50)], PATIENCE))
        await asyncio.sleep(0.1)
        made.observe({"b": holding("b")})
        assert right(await first)
        alone, *together = [len(ids) for _, replica, ids in engines.calls if replica == "b"]
        assert (alone, together) == (1, [49])

    run(main())


def test_a_new_row_of_which_copies_were_on_board_of_two_engines_that_died_at_once_is_refused_for_an_hour():
    async def main():
        loop = asyncio.get_running_loop()
        engines = Engines(deaths=dict.fromkeys("ab", loop.time() + 0.005))
        made = dispatcher(engines, "a", "b")
        first = await made.submit([row(f"t{i}", 7) for i in range(50)], PATIENCE)
        assert {reply.code for reply in first} == {"poisonous_request"}, "it may have been the row"
        made.observe({"c": holding("c")})
        (reply,) = await made.submit([row("u", 7)], PATIENCE)
        assert reply.code == "poisonous_request"
        await asyncio.sleep(REMEMBERED_S)
        assert right(await made.submit([row("v", 7)], PATIENCE))
        made.check()

    run(main())


def test_poison_whose_copies_take_two_engines_at_once_takes_no_third_whoever_is_held_for_it_as_well():
    async def main():
        for order in ([POISON, 7], [7, POISON]):
            engines = poisoned()
            made = dispatcher(engines, *"ab")
            both = [row(f"{number}-{i}", number) for number in order for i in range(25)]
            await made.submit(both, PATIENCE)
            assert engines.dead == {"a", "b"}, "its rows are spread over both"
            made.observe({replica: holding(replica) for replica in "cdef"})
            for i in range(20):
                await asyncio.sleep(100)
                (reply,) = await made.submit([row(f"again{i}", POISON)], PATIENCE)
                assert reply.code == "poisonous_request"
            assert engines.dead == {"a", "b"}
            made.check()

    run(main())


def test_popular_rows_are_not_suspected_and_a_double_loss_does_not_stop_them():
    async def main():
        engines, gateways = poisoned(), Gateways()
        made = [dispatcher(engines, "a", "b", gateways=gateways, name=name) for name in ("g1", "g2")]
        for gateway in made:
            assert all(right(replies) for replies in (await crowd(gateway, range(8), each=8)).values())
        busy = [asyncio.create_task(crowd(gateway, range(8), name="busy", each=8)) for gateway in made]
        bad = [asyncio.create_task(crowd(gateway, [POISON], name="bad", each=8)) for gateway in made]
        await asyncio.sleep(1)
        for gateway in made:
            gateway.observe({replica: holding(replica) for replica in "cd"})
        assert all(right(replies) for found in await asyncio.gather(*busy) for replies in found.values())
        codes = {reply.code for found in await asyncio.gather(*bad) for reply in found[POISON]}
        assert (codes, engines.dead) == ({"poisonous_request"}, {"a", "b"})

    run(main())


def test_a_row_that_was_answered_and_comes_to_kill_takes_two_engines_more_and_then_no_other():
    async def main():
        engines = Engines()
        made = dispatcher(engines, *"abcdef")
        assert right(await made.submit([row("known", POISON)], PATIENCE))
        engines.poison.add(POISON)
        replies = [(await made.submit([row(f"bad{i}", POISON)], PATIENCE))[0] for i in range(3)]
        assert {reply.code for reply in replies} == {"poisonous_request"}
        assert len(engines.dead) == 4, "two that its record speaks for, and two that convict it"
        made.check()

    run(main())


def test_a_gateway_that_comes_up_hears_of_what_the_others_know_and_takes_no_third_engine():
    async def main():
        engines, gateways = poisoned(), Gateways()
        one = dispatcher(engines, *"abcd", gateways=gateways, name="g1")
        await crowd(one, [POISON])
        assert len(engines.dead) == 2
        two = dispatcher(engines, *"abcd", gateways=gateways, name="g2")
        await two.greet()
        gateways.members.remove(one)  # it is gone, and what it knew lives on
        (reply,) = await two.submit([row("again", POISON)], PATIENCE)
        assert (reply.code, len(engines.dead)) == ("poisonous_request", 2)
        assert right(await two.submit([row("other", 1)], PATIENCE))
        two.check()

    run(main())


def test_a_gateway_that_heard_of_nothing_is_told_before_its_suspect_travels_again():
    async def main():
        engines, gateways = poisoned(), Gateways()
        one = dispatcher(engines, *"abcdef", gateways=gateways, name="g1")
        await crowd(one, [POISON])
        two = dispatcher(engines, *"abcdef", gateways=gateways, name="g2")
        two.observe({replica: holding(replica) for replica in "abcdef" if replica not in engines.dead})
        (reply,) = await two.submit([row("again", POISON)], PATIENCE)
        assert (reply.code, len(engines.dead)) == ("poisonous_request", 3), "one, and no second"
        one.check()
        two.check()

    run(main())


def test_a_cleared_copy_that_rides_with_the_culprit_is_not_held_responsible():
    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"abcdefgh")
        rows = [("t0", 1), ("t1", 1), ("p", POISON)]
        replies = await asyncio.gather(*(made.submit([row(*values)], PATIENCE) for values in rows))
        assert [getattr(reply, "code", "right") for (reply,) in replies] == ["right", "right", "poisonous_request"]
        assert len(engines.dead) == 2
        made.check()

    run(main())


def test_the_lane_waits_for_a_suspect_whose_client_is_gone_while_it_is_on_board():
    async def main():
        engines = poisoned(delays={"slow": 2.0})
        made = dispatcher(engines, *"abcd")
        slow = asyncio.create_task(made.submit([row("slow", POISON)], 2.5))
        await asyncio.sleep(1.9)
        beside = asyncio.create_task(made.submit([row("beside", 1)], PATIENCE))
        replies = [(await slow)[0], (await beside)[0]]
        assert replies[0].code == "deadline_exceeded"
        assert isinstance(replies[1], Result)
        await asyncio.sleep(5)
        assert len(engines.dead) == 2
        assert (await made.submit([row("again", POISON)], PATIENCE))[0].code == "poisonous_request"
        made.check()

    run(main())


def test_suspects_that_another_gateway_has_on_board_wait_for_their_outcome():
    async def main():
        engines, gateways = poisoned(delays={"late": 1.0}), Gateways()
        one, two = (dispatcher(engines, *"abcd", gateways=gateways, name=name) for name in ("g1", "g2"))
        late = asyncio.create_task(two.submit([row("late", POISON)], PATIENCE))
        await asyncio.sleep(0.5)
        one.observe({replica: holding(replica) for replica in "abcd" if replica != engines.calls[0][1]})
        early = asyncio.create_task(one.submit([row("early", POISON)], PATIENCE))
        assert [(await task)[0].code for task in (early, late)] == ["poisonous_request"] * 2
        await asyncio.sleep(5)
        assert len(engines.dead) == 2

    run(main())


def test_what_it_takes_two_gateways_to_see_is_told_before_the_row_travels_again():
    async def main():
        engines, gateways = poisoned(delays={"gone": 0.5}), Gateways()
        one, two = (dispatcher(engines, *"abcd", gateways=gateways, name=name) for name in ("g1", "g2"))
        gone = asyncio.create_task(two.submit([row("gone", POISON)], PATIENCE))
        await asyncio.sleep(0.1)
        gone.cancel()  # nobody of the second gateway waits for a suspect, and yet it knows one
        one.observe({replica: holding(replica) for replica in "abcd" if replica != engines.calls[0][1]})
        engines.delays["late"] = 0.6
        (reply,) = await one.submit([row("late", POISON)], PATIENCE)
        assert (reply.code, len(engines.dead)) == ("poisonous_request", 2)

    run(main())


def test_a_gateway_that_does_not_answer_is_not_waited_for():
    async def main():
        engines, gateways = poisoned(), Gateways()
        one, two = (dispatcher(engines, *"abcd", gateways=gateways, name=name) for name in ("g1", "g2"))
        gateways.broken.add(two)
        replies = await crowd(one, [1, 2, POISON])
        assert [reply.code for reply in replies.pop(POISON)] == ["poisonous_request"]
        assert all(right(reply) for reply in replies.values())

    run(main())


def test_a_failed_round_is_tried_again():
    class Failing(Gateways):
        async def claim(self, claim):
            if len(self.claims) < 2:
                self.claims.append(claim)
                raise ValueError("a bug")
            return await super().claim(claim)

    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"abcd", gateways=Failing())
        replies = await crowd(made, [1, POISON])
        assert right(replies[1])
        assert len(engines.dead) == 2
        made.check()

    run(main())


def test_nobody_keeps_the_turn_for_long():
    async def main():
        loop = asyncio.get_running_loop()
        gateways = Gateways()
        slow = {f"{name}{n}-0": 0.2 for name in ("one", "two") for n in range(100)}
        engines = Engines(delays=slow)
        one, two = (dispatcher(engines, "a", "b", gateways=gateways, name=name) for name in ("g1", "g2"))
        engines.deaths["a"] = loop.time() + 0.1
        await asyncio.gather(crowd(one, range(40), name="one"), crowd(two, range(40, 80), name="two"))
        turns = [claim.gateway for claim in gateways.claims]
        assert len(turns) >= 80 * 0.2 / 2 / (HOLD_S + 0.2) / 2
        assert {"g1", "g2"} == set(turns)

    run(main())


worlds = st.fixed_dictionaries(
    {
        "rows": st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 12), st.floats(0, 3), st.none() | st.floats(0, 0.2)),
            min_size=1,
            max_size=30,
        ),
        "poison": st.lists(st.tuples(st.integers(0, 2), st.floats(0, 3)), min_size=1, max_size=4),
        "kills": st.none() | st.floats(0, 3),
    }
)


@settings(max_examples=100, deadline=None)
@given(worlds)
def test_whenever_it_comes_and_whoever_sends_it_one_poison_takes_two_engines(world):
    """Three gateways, repeated contents, impatient clients, copies of one poison at any time, and one plain kill."""

    async def main():
        loop = asyncio.get_running_loop()
        engines, gateways = poisoned(), Gateways()
        made = [dispatcher(engines, *"abcdefgh", gateways=gateways, name=f"g{i}") for i in range(3)]
        codes = []

        async def client(ident, gateway, number, start, patience):
            await asyncio.sleep(start)
            task = asyncio.create_task(made[gateway].submit([row(ident, number)], PATIENCE))
            if patience is not None:
                loop.call_later(patience, task.cancel)
            try:
                codes.append((number, getattr((await task)[0], "code", "right")))
            except asyncio.CancelledError:
                return

        async def kill(when):
            await asyncio.sleep(when)
            if "h" not in engines.dead:
                engines.kill("h")

        await asyncio.gather(
            *(client(f"t{i}", *values) for i, values in enumerate(world["rows"])),
            *(client(f"p{i}", g, POISON, start, None) for i, (g, start) in enumerate(world["poison"])),
            *([kill(world["kills"])] if world["kills"] is not None else []),
        )
        plain = 0 if world["kills"] is None else 1
        assert len(engines.dead) <= 2 + plain
        wrong = {(number, code) for number, code in codes if (number == POISON) == (code == "right")}
        assert not wrong
        for gateway in made:
            gateway.check()

    run(main())


def test_the_content_is_known_by_what_it_is_and_not_by_its_id():
    async def main():
        engines = poisoned()
        made = dispatcher(engines, *"abcd")
        await crowd(made, [POISON])
        for other in (row("ids", 1), replace(row("inserted", POISON), inserted=3)):
            (reply,) = await made.submit([other], PATIENCE)
            known = getattr(reply, "code", "right") == "poisonous_request"
            assert not known or other.inserted
        (reply,) = await made.submit([row("another", POISON)], PATIENCE)
        assert reply.code == "poisonous_request"

    run(main())
