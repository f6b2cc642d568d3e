"""Suspects are recalled from the lines of their engines, so that nobody's deadline passes while others wait for them."""

import asyncio
import logging

import pytest

from serving.dispatch.ports import Conviction, News
from tests.serving.dispatch.worlds import POISON, Engines, Gateways, codes, dispatcher, mark, replies_of, row, see
from tests.serving.virtual_time import run

LONG_S = 25.0  # a cold load, or a long line
PATIENCE = 10.0


def pair(engines, **options):
    gateways = Gateways(**options)
    return gateways, *(dispatcher(engines, "a", gateways=gateways, name=name) for name in ("g1", "g2"))


async def submitted(made, ident, number, *, patience=PATIENCE):
    task = asyncio.create_task(made.submit([row(ident, number)], patience))
    await asyncio.sleep(0.002)
    return task


async def four_on_a_that_dies_and_a_copy_on_b(engines, one, other):
    """Innocents of one gateway on board of a lost engine, and a copy of the first in the line of another one."""
    innocents = [await submitted(one, f"t{n}", n) for n in range(4)]
    see(other, "b")
    copy = await submitted(other, "copy", 0, patience=60)
    await asyncio.sleep(0.1)
    engines.kill("a")
    for gateway in {one, other}:
        see(gateway, "bc")
    return innocents, copy


@pytest.mark.parametrize("cancel_s", [0.0, 0.05])
@pytest.mark.parametrize("carrier", ["same", "other"])
def test_innocents_are_answered_in_time_though_a_copy_of_a_suspect_waits_in_a_long_line(carrier, cancel_s):
    async def main():
        engines = Engines(delays={"copy": LONG_S, **{f"t{n}": 5.0 for n in range(4)}}, cancel_s=cancel_s)
        engines.queued.add("copy")
        _, one, two = pair(engines)
        began = asyncio.get_running_loop().time()
        waiting = four_on_a_that_dies_and_a_copy_on_b(engines, one, one if carrier == "same" else two)
        innocents, copy = await waiting
        engines.delays.clear()
        assert codes(await replies_of([*innocents, copy])) == {"right"}
        assert asyncio.get_running_loop().time() - began < PATIENCE
        assert ("b", ["copy"]) in engines.cancelled
        for gateway in (one, two):
            gateway.check()

    run(main())


def test_a_row_of_a_running_step_is_waited_for_and_its_answer_clears_the_others():
    async def main():
        engines = Engines(delays={"copy": 3.0, **{f"t{n}": 5.0 for n in range(4)}})
        _, one, two = pair(engines)
        innocents, copy = await four_on_a_that_dies_and_a_copy_on_b(engines, one, two)
        engines.delays.clear()
        await asyncio.sleep(2.0)
        assert [ids for _, replica, ids in engines.calls if replica != "a"] == [["copy"]], "nobody is asked beside it"
        assert codes(await replies_of([*innocents, copy])) == {"right"}
        assert not one._suspects.any_suspected

    run(main())


def test_a_copy_of_the_poison_that_waits_comes_back_before_it_kills_and_the_question_is_proof():
    async def main():
        engines = Engines(poison={POISON}, delays={"x": 5.0, "p2": 1.0}, queued={"p2"})
        _, one, two = pair(engines)
        innocent = await submitted(one, "x", 1)
        see(two, "b")
        second = await submitted(two, "p2", POISON)
        first = await submitted(one, "p1", POISON)
        for gateway in (one, two):
            see(gateway, "bc")
        await asyncio.sleep(0.5)
        engines.delays.clear()
        assert codes(await replies_of([innocent])) == {"right"}
        assert codes(await replies_of([first, second])) == {"poisonous_request"}
        assert len(engines.dead) == 2
        assert one._suspects.convictions()[mark(POISON)].proven

    run(main())


def test_a_row_that_is_recalled_costs_no_retry_and_still_ends_at_its_own_deadline():
    async def main():
        engines = Engines(delays={"x": LONG_S, "hung": 60.0}, queued={"x"})
        _, one, two = pair(engines)
        waits = await submitted(one, "x", 1)
        hung = await submitted(two, "hung", 2, patience=60)
        before = one._budget._left
        one.hear(News("g3", suspected={mark(1): frozenset("z"), mark(2): frozenset("z")}))
        two.hear(News("g3", suspected={mark(1): frozenset("z"), mark(2): frozenset("z")}))
        await asyncio.sleep(0.1)
        assert [flight.ticket.id for flight in one._quarantine.held] == ["x"]
        (flight,) = one._quarantine.held
        assert (flight.failures, flight.tried, one._budget._left) == (0, [], before)
        assert codes(await waits) == {"deadline_exceeded"}, "what runs elsewhere does not come back"
        one.check()
        hung.cancel()

    run(main())


def test_a_late_word_of_a_recall_that_finds_the_row_on_its_next_journey_does_not_end_it():
    async def main():
        engines = Engines(delays={"x": 1.0}, queued={"x"}, cancel_s=0.3)
        _, one, _two = pair(engines)
        task = await submitted(one, "x", 1)
        one.hear(News("g3", suspected={mark(1): frozenset("z")}))
        await asyncio.sleep(0.2)
        one.hear(News("g3", cleared=frozenset({mark(1)})))
        assert codes(await task) == {"right"}
        assert len(engines.calls) == 2, "it was sent anew"
        one.check()

    run(main())


def test_a_silent_gateway_gets_no_suspect_asked_and_one_warning_a_claim(caplog):
    class Silent(Gateways):
        silent = True

        async def claim(self, claim):
            if self.silent:
                self.claims.append(claim)
                await asyncio.sleep(15)
                raise TimeoutError
            return await super().claim(claim)

    async def main():
        engines, gateways = Engines(delays={"x": 1.0, "y": 1.0}), Silent()
        made = dispatcher(engines, "a", gateways=gateways)
        early, late = await submitted(made, "x", 1), await submitted(made, "y", 2, patience=60)
        engines.kill("a")
        see(made, "b")
        assert codes(await early) == {"deadline_exceeded"}, "the bound of two engines comes first"
        await asyncio.sleep(10)
        assert [replica for _, replica, _ in engines.calls] == ["a", "a"]
        assert codes(await made.submit([row("ordinary", 9)], 1)) == {"right"}
        gateways.silent = False
        assert codes(await late) == {"right"}
        told = [record for record in caplog.records if "silent" in record.getMessage()]
        assert {record.levelno for record in told} == {logging.WARNING}
        assert len(told) == len(gateways.claims) - 1
        assert not [record for record in caplog.records if record.exc_info]

    run(main())


def test_a_blocked_turn_is_claimed_at_growing_pauses_and_at_once_when_its_suspect_lands():
    async def main():
        engines = Engines(delays={"run": 8.0, "x": 5.0})
        gateways, one, _two = pair(engines)
        innocent = await submitted(one, "x", 1, patience=60)
        see(one, "b")
        runs = await submitted(one, "run", 1, patience=60)
        loop = asyncio.get_running_loop()
        landing = loop.time() + 8.0
        engines.kill("a")
        engines.delays.clear()
        await asyncio.sleep(6)
        assert 10 <= len(gateways.claims) <= 20
        await innocent
        assert loop.time() - landing < 0.1
        await runs

    run(main())


def test_a_row_that_is_cleared_outside_of_a_question_is_told():
    async def main():
        engines = Engines(delays={"x": 1.0})
        gateways, one, two = pair(engines)
        task = await submitted(one, "x", 1)
        for gateway in (one, two):
            gateway.hear(News("g3", suspected={mark(1): frozenset("z")}))
        assert codes(await task) == {"right"}
        await asyncio.sleep(0.1)
        assert [news.cleared for news in gateways.told] == [{mark(1)}]
        assert not two._suspects.any_suspected

    run(main())


def test_only_a_greeting_is_answered_with_all_that_is_known():
    async def main():
        made = dispatcher(Engines(), "a")
        known = {mark(1): frozenset("z")}
        assert made.hear(News("g2", suspected=known)) == News("gateway")
        assert made.hear(News("g3")) == News("gateway", suspected=known)

    run(main())


def test_where_nobody_can_be_told_the_convicted_row_is_refused_all_the_same_and_told_later():
    class Failing(Gateways):
        fails = False

        async def tell(self, news):
            if self.fails:
                raise ConnectionError("nobody heard")
            return await super().tell(news)

    async def main():
        engines, gateways = Engines(poison={POISON}, delays={"p": 1.0}), Failing()
        one, two = (dispatcher(engines, *"abc", gateways=gateways, name=name) for name in ("g1", "g2"))
        bad = await submitted(one, "p", POISON)
        await asyncio.sleep(1.5)
        gateways.fails = True
        assert codes(await bad) == {"poisonous_request"}
        assert two._suspects.convictions() == {}
        gateways.fails = False
        await asyncio.sleep(2)
        assert two._suspects.convictions() == {mark(POISON): Conviction(frozenset(engines.dead), proven=True)}

    run(main())


def test_a_loss_is_told_though_its_gateway_waits_for_its_own_turn():
    async def main():
        engines = Engines(delays={"t0": 5.0, "t1": 5.0, "p": 5.0})
        _, one, two = pair(engines)
        rows = [await submitted(one, "t0", 0), await submitted(two, "t1", 1)]
        await asyncio.sleep(0.1)
        engines.kill("a")
        engines.delays.update(t0=3.0, t1=3.0)
        for gateway in (one, two):
            see(gateway, "b")
        await asyncio.sleep(0.5)
        inside, waiting = (one, two) if one._quarantine.asked else (two, one)
        assert inside._quarantine.asked is not None
        assert waiting._quarantine.asked is None
        see(waiting, "e")
        rows.append(await submitted(waiting, "p", 7))
        await asyncio.sleep(0.1)
        engines.kill("e")
        engines.delays.clear()
        await asyncio.sleep(0.1)
        assert inside._quarantine.asked is not None, "its turn goes on"
        assert inside._suspects.suspected(mark(7))
        see(waiting, "b")
        assert codes(await replies_of(rows)) == {"right"}

    run(main())


def test_copies_of_a_row_that_is_answered_go_on_though_a_claim_waits():
    async def main():
        engines = Engines(delays={"x0": 5.0, "x1": 2.0})
        gateways, one, _ = pair(engines)
        held = await submitted(one, "x0", 0)
        see(one, "b")
        other = await submitted(one, "x1", 0)
        gateways.lag = 30.0
        engines.kill("a")
        engines.delays.clear()
        assert codes(await replies_of([held, other])) == {"right"}

    run(main())
