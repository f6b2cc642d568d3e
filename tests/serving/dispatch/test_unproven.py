"""Rows that were on board of two lost replicas: free if anything explains it until their gateway's turn, else refused."""

import asyncio

import pytest

from serving.dispatch.ports import Claim, Conviction, News
from tests.serving.dispatch.worlds import POISON, Engines, Gateways, codes, dispatcher, mark, replies_of, row, see
from tests.serving.virtual_time import run

PATIENCE = 30
UNPROVEN = Conviction(frozenset("ab"), proven=False)
PROVEN = Conviction(frozenset("ab"), proven=True)


async def on_both(made, number: int, engines: Engines, *, seconds: float) -> list[asyncio.Task]:
    """One row of this content on board of a, and one of b, for a while."""
    tasks = []
    for replica in "ab":
        see(made, replica)
        ident = f"{number}-{replica}"
        engines.delays[ident] = seconds
        tasks.append(asyncio.create_task(made.submit([row(ident, number)], PATIENCE)))
        await asyncio.sleep(0.001)
    return tasks


@pytest.mark.parametrize("unnoticed", [0.0, 0.3])
@pytest.mark.parametrize("lag", [0.002, 0.05, 0.2])
def test_innocents_on_board_of_both_wait_for_the_proof_that_another_gateway_is_about_to_tell(lag, unnoticed):
    async def main():
        engines, gateways = Engines(poison={POISON}), Gateways(lag=lag)
        one, two = (dispatcher(engines, "a", gateways=gateways, name=name) for name in ("g1", "g2"))
        innocents = [task for n in range(1, 9) for task in await on_both(two, n, engines, seconds=5.0)]
        engines.delays["p"] = engines.unnoticed["p"] = unnoticed
        bad = asyncio.create_task(one.submit([row("p", POISON)], PATIENCE))
        await asyncio.sleep(0.001)
        see(one, "b")
        (reply,) = await bad
        assert reply.code == "poisonous_request"
        for gateway in (one, two):
            see(gateway, "cd")
        assert codes(await replies_of(innocents)) == {"right"}
        assert engines.dead == {"a", "b"}
        for gateway in (one, two):
            assert gateway._suspects.convictions() == {mark(POISON): PROVEN}
            gateway.check()

    run(main())


def test_a_gateway_that_missed_the_proof_is_told_again_before_it_convicts():
    class Lossy(Gateways):
        async def tell(self, news):
            news_of_proof = [news for news in self.told if news.convicted]
            if news.convicted and not news_of_proof:
                self.told.append(news)
                return []
            return await super().tell(news)

    async def main():
        engines, gateways = Engines(poison={POISON}), Lossy()
        one, two = (dispatcher(engines, "a", gateways=gateways, name=name) for name in ("g1", "g2"))
        innocents = await on_both(two, 1, engines, seconds=5.0)
        bad = asyncio.create_task(one.submit([row("p", POISON)], PATIENCE))
        await asyncio.sleep(0.001)
        see(one, "b")
        assert codes(await bad) == {"poisonous_request"}
        see(two, "cd")
        assert codes(await replies_of(innocents)) == {"right"}

    run(main())


def test_without_proof_all_that_were_on_board_of_both_are_convicted_in_the_turn_and_everywhere():
    async def main():
        engines, gateways = Engines(), Gateways()
        one, two = (dispatcher(engines, "a", gateways=gateways, name=name) for name in ("g1", "g2"))
        rows = [task for n in (1, 2) for task in await on_both(two, n, engines, seconds=5.0)]
        engines.kill("a")
        engines.kill("b")
        see(two, "cd")
        await asyncio.sleep(0)
        assert not any(task.done() for task in rows), "not on the spot"
        assert codes(await replies_of(rows)) == {"poisonous_request"}
        assert gateways.claims[0].gateway == "g2"
        assert not [call for call in engines.calls if call[1] not in "ab"], "none of them is tried again"
        await asyncio.sleep(1)  # the other gateway takes a turn for them as well
        for gateway in (one, two):
            assert gateway._suspects.convictions() == dict.fromkeys(map(mark, (1, 2)), UNPROVEN)
            gateway.check()

    run(main())


def test_a_row_that_becomes_grave_while_its_turn_is_claimed_is_claimed_as_such_first():
    async def main():
        engines, gateways = Engines(), Gateways(lag=0.1)
        made = dispatcher(engines, "a", gateways=gateways)
        rows = await on_both(made, 1, engines, seconds=5.0)
        engines.kill("a")
        await asyncio.sleep(0.15)  # the others have been told, and are being asked
        engines.kill("b")
        assert codes(await replies_of(rows)) == {"poisonous_request"}
        assert [claim.strikes[mark(1)] for claim in gateways.claims] == [frozenset("a"), frozenset("ab")]

    run(main())


def test_a_proof_that_comes_later_lifts_what_was_convicted_without():
    async def main():
        engines, gateways = Engines(), Gateways()
        made = dispatcher(engines, "a", gateways=gateways)
        rows = await on_both(made, 1, engines, seconds=5.0)
        engines.kill("a")
        engines.kill("b")
        assert codes(await replies_of(rows)) == {"poisonous_request"}
        see(made, "c")
        assert codes(await made.submit([row("early", 1)], PATIENCE)) == {"poisonous_request"}
        made.hear(News("another", convicted={mark(POISON): PROVEN}))
        assert codes(await made.submit([row("late", 1)], PATIENCE)) == {"right"}
        assert codes(await made.submit([row("p", POISON)], PATIENCE)) == {"poisonous_request"}
        made.check()

    run(main())


def test_a_sentence_that_proof_lifts_while_it_is_told_refuses_nobody():
    class Proving(Gateways):
        async def tell(self, news):
            self.members[0].hear(News("another", convicted={mark(POISON): PROVEN}))
            return await super().tell(news)

    async def main():
        engines = Engines()
        made = dispatcher(engines, "a", gateways=Proving())
        rows = await on_both(made, 1, engines, seconds=0.5)
        engines.kill("a")
        engines.kill("b")
        see(made, "c")
        assert codes(await replies_of(rows)) == {"right"}
        made.check()

    run(main())


def test_proof_refuses_nobody_who_is_told_of_as_convicted_for_the_same_losses():
    async def main():
        engines = Engines(delays={"t": 1.0})
        made = dispatcher(engines, "c")
        task = asyncio.create_task(made.submit([row("t", 1)], PATIENCE))
        await asyncio.sleep(0.1)
        made.hear(News("one", convicted={mark(POISON): PROVEN}))
        made.hear(News("two", convicted={mark(1): UNPROVEN}))
        assert codes(await task) == {"right"}
        made.check()

    run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_whoever_sees_the_halves_together_convicts_though_nobody_waits_for_the_row_there(waits):
    async def main():
        engines, gateways = Engines(delays={"one": 0.1, "two": 0.1}), Gateways()
        one = dispatcher(engines, "a", gateways=gateways, name="g1")
        two = dispatcher(engines, "b", gateways=gateways, name="g2")
        first = asyncio.create_task(one.submit([row("one", 1)], PATIENCE))
        second = asyncio.create_task(two.submit([row("two", 1)], PATIENCE))
        await asyncio.sleep(0.05)
        second.cancel()
        if not waits:
            first.cancel()
        await asyncio.sleep(0)
        engines.kill("a")
        engines.kill("b")
        await asyncio.sleep(1)
        assert gateways.claims
        if not waits:
            see(one, "c")
            first = asyncio.create_task(one.submit([row("again", 1)], PATIENCE))
        assert codes(await first) == {"poisonous_request"}
        assert engines.dead == {"a", "b"}
        assert {replica for _, replica, _ in engines.calls} == {"a", "b"}
        for gateway in (one, two):
            assert gateway._suspects.convictions() == {mark(1): UNPROVEN}
            gateway.check()

    run(main())


def test_what_a_claim_makes_grave_here_is_told_before_we_consent_and_our_own_turn_follows():
    async def main():
        gateways = Gateways()
        made = dispatcher(Engines(), "c", gateways=gateways, name="g1")
        made.hear(News("g3", suspected={mark(1): frozenset("b")}))
        claimed, known = (dict.fromkeys([mark(1)], frozenset(losses)) for losses in ("a", "ab"))
        assert await made.consent(Claim(1, "g2", {**claimed, mark(2): frozenset("a")})) == frozenset()
        assert [news.suspected for news in gateways.told] == [known]
        await asyncio.sleep(1)
        both = {**known, mark(2): frozenset("a")}
        assert [(claim.gateway, dict(claim.strikes)) for claim in gateways.claims] == [("g1", both)]
        assert made._suspects.convictions() == {mark(1): UNPROVEN}
        made.check()

    run(main())
