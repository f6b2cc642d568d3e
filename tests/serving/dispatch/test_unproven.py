"""Rows that were on board of two lost replicas: free if anything explains it until their gateway's turn, else refused."""

import asyncio
import random

import pytest

from serving.dispatch.ports import Claim, Conviction, News
from serving.dispatch.suspects import fingerprint
from tests.serving.dispatch.worlds import Engines, Gateways, dispatcher, holding, row
from tests.serving.virtual_time import run

POISON = 666
PATIENCE = 30
UNPROVEN = Conviction(frozenset("ab"), proven=False)
PROVEN = Conviction(frozenset("ab"), proven=True)


def mark(number: int) -> str:
    return fingerprint(row("any", number))


def see(made, replicas: str) -> None:
    made.observe({replica: holding(replica) for replica in replicas})


def codes(replies) -> set[str]:
    return {getattr(reply, "code", "right") for reply in replies}


async def replies_of(tasks) -> list:
    return [reply for replies in await asyncio.gather(*tasks) for reply in replies]


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
        await asyncio.sleep(0.05)
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
        if not waits:  # nobody has asked yet; the next client brings the halves together
            assert not gateways.claims
            see(one, "c")
            first = asyncio.create_task(one.submit([row("again", 1)], PATIENCE))
        assert codes(await first) == {"poisonous_request"}
        assert engines.dead == {"a", "b"}
        assert {replica for _, replica, _ in engines.calls} == {"a", "b"}
        for gateway in (one, two):
            assert gateway._suspects.convictions() == {mark(1): UNPROVEN}
            gateway.check()

    run(main())


def test_consent_names_what_is_grave_here_and_our_own_turn_follows():
    async def main():
        gateways = Gateways()
        made = dispatcher(Engines(), "c", gateways=gateways, name="g1")
        strikes = {mark(1): frozenset("ab"), mark(2): frozenset("a")}
        assert await made.consent(Claim(1, "g2", strikes)) == {mark(1)}
        await asyncio.sleep(1)
        assert [(claim.gateway, dict(claim.strikes)) for claim in gateways.claims] == [
            ("g1", {mark(1): frozenset("ab")})
        ]
        assert made._suspects.convictions() == {mark(1): UNPROVEN}
        made.check()

    run(main())


@pytest.mark.parametrize("seed", range(150))
def test_in_any_world_one_poison_takes_two_engines_and_once_it_was_questioned_no_innocent(seed):
    """Requests of several rows on the same few engines, at several gateways that hear of news and of deaths late.

    The poison kills at once, and its two clients use one gateway.
    """

    async def main():
        chance = random.Random(seed)
        engines, gateways = Engines(poison={POISON}), Gateways(lag=chance.choice([0.001, 0.02, 0.2]))
        names = [f"g{i}" for i in range(chance.randint(1, 3))]
        made = [dispatcher(engines, *"ab", gateways=gateways, name=name) for name in names]
        guilty = chance.choice(made)
        outcome: dict[int, set[str]] = {}

        async def client(ident, number, start, rows):
            await asyncio.sleep(start)
            sent = [row(f"{ident}-{i}", number) for i in range(rows)]
            for ticket in sent:
                if number != POISON:
                    engines.delays[ticket.id] = chance.choice([0.01, 0.1, 0.5])
                    engines.unnoticed[ticket.id] = chance.choice([0.0, 0.0, 0.1])
            gateway = guilty if number == POISON else chance.choice(made)
            outcome.setdefault(number, set()).update(codes(await gateway.submit(sent, 120)))

        async def replaced():
            await asyncio.sleep(chance.uniform(0, 2))
            for gateway in made:
                see(gateway, "".join(sorted({*"abcdef"} - engines.dead)))

        await asyncio.gather(
            *(client(f"t{i}", chance.randint(1, 6), chance.uniform(0, 1), chance.randint(1, 4)) for i in range(30)),
            *(client(f"p{i}", POISON, chance.uniform(0, 1), 1) for i in range(2)),
            replaced(),
        )
        await asyncio.sleep(1)
        assert len(engines.dead) <= 2
        assert outcome.pop(POISON) == {"poisonous_request"}
        known = [gateway._suspects.convictions() for gateway in made]
        if any(conviction.proven for found in known for conviction in found.values()):
            assert set().union(*outcome.values()) == {"right"}
            assert {print_ for found in known for print_ in found} == {mark(POISON)}
        for gateway in made:
            gateway.check()

    run(main())
