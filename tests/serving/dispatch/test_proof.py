"""A question proves something only where nobody else can have done it: who is held back before one is asked, and when."""

import asyncio
import random

import pytest

from serving.dispatch.ports import Claim, Conviction, News
from tests.serving.dispatch.worlds import POISON, Engines, Gateways, codes, dispatcher, mark, replies_of, row, see
from tests.serving.virtual_time import run

PATIENCE = 120
PROVEN = {mark(POISON): Conviction(frozenset("ab"), proven=True)}


def pair(engines, *replicas, lag=0.002):
    gateways = Gateways(lag=lag)
    return gateways, *(dispatcher(engines, *replicas, gateways=gateways, name=name) for name in ("g1", "g2"))


async def aboard(made, ident, number, *, seconds=0.0):
    """A row on board of an engine of this gateway: the only one that it sees."""
    task = asyncio.create_task(made.submit([row(ident, number)], PATIENCE))
    await asyncio.sleep(seconds or 0.001)
    return task


@pytest.mark.parametrize("carrier", ["same", "other"])
@pytest.mark.parametrize("lag", [0.002, 0.05])
def test_no_innocent_is_asked_beside_a_copy_of_the_poison_that_left_before_it_was_suspected(carrier, lag):
    async def main():
        engines = Engines(poison={POISON}, delays={"p2": 1.0, "x": 5.0})
        _, one, two = pair(engines, "a", lag=lag)
        carries = one if carrier == "same" else two
        see(carries, "b")
        second = await aboard(carries, "p2", POISON)
        see(one, "a")
        innocent = await aboard(one, "x", 1)
        first = await aboard(one, "p1", POISON, seconds=0.05)
        assert engines.dead == {"a"}
        for gateway in (one, two):
            see(gateway, "b")
        await asyncio.sleep(0.5)
        assert [ids for _, replica, ids in engines.calls if replica == "b"] == [["p2"]], "nobody is asked"
        assert codes([*await first, *await second]) == {"poisonous_request"}
        assert engines.dead == {"a", "b"}
        for gateway in (one, two):
            see(gateway, "c")
        assert codes(await innocent) == {"right"}
        for gateway in (one, two):
            assert gateway._suspects.convictions().keys() == {mark(POISON)}
            gateway.check()

    run(main())


def test_a_suspicion_is_told_at_once_so_that_the_other_gateway_sends_no_copy():
    async def main():
        engines = Engines(poison={POISON}, delays={"x": 5.0})
        gateways, one, two = pair(engines, "a")
        gone = await aboard(one, "p1", POISON)
        gone.cancel()  # nobody waits for it, and so its gateway has nothing to ask
        await asyncio.sleep(0.1)
        assert engines.dead == {"a"}
        assert not gateways.claims
        see(two, "b")
        ordinary = await aboard(two, "x", 1)
        assert codes(await (await aboard(two, "p2", POISON))) == {"poisonous_request"}
        assert gateways.claims, "it was asked, and not sent"
        see(two, "c")
        assert codes(await ordinary) == {"right"}
        for gateway in (one, two):
            assert gateway._suspects.convictions() == PROVEN
            gateway.check()

    run(main())


def test_a_gateway_that_comes_up_hears_who_is_suspected():
    async def main():
        gateways = Gateways()
        one = dispatcher(Engines(), "b", gateways=gateways, name="g1")
        one.hear(News("gone", suspected={mark(POISON): frozenset("a")}))
        two = dispatcher(Engines(), "b", gateways=gateways, name="g2")
        await two.greet()
        assert two._suspects.strikes() == {mark(POISON): frozenset("a")}

    run(main())


@pytest.mark.parametrize("carrier", ["same", "other"])
def test_what_is_on_board_of_an_engine_that_another_call_saw_die_is_suspected_before_its_own_call_ends(carrier):
    async def main():
        engines = Engines(poison={POISON}, delays={"x": 5.0}, unnoticed={"p1": 1.0})
        _, one, two = pair(engines, "a")
        bad = await aboard(one if carrier == "same" else two, "p1", POISON)
        innocent = await aboard(one, "x", 1, seconds=0.1)
        for gateway in (one, two):
            see(gateway, "b")
            assert gateway._suspects.strikes().keys() == {mark(1), mark(POISON)}
        copy = await aboard(two, "p2", POISON, seconds=0.5)
        assert engines.dead == {"a"}, "neither the copy nor the innocent travels while one is on board"
        assert len(engines.calls) == 2
        assert codes([*await bad, *await copy]) == {"poisonous_request"}
        for gateway in (one, two):
            see(gateway, "c")
        assert codes(await innocent) == {"right"}
        assert engines.dead == {"a", "b"}

    run(main())


def test_whoever_is_sent_to_an_engine_that_is_known_to_be_lost_is_not_blamed():
    async def main():
        engines = Engines(deaths={"b": 0.0})
        made = dispatcher(engines, "b")
        made.hear(News("another", suspected={mark(1): frozenset("a"), mark(2): frozenset("b")}))
        await asyncio.sleep(0.1)
        asked = await aboard(made, "x", 1, seconds=0.5)
        assert made._suspects.strikes([mark(1)]) == {mark(1): frozenset("a")}
        see(made, "c")
        assert codes(await asked) == {"right"}
        made.check()

    run(main())


def test_a_suspect_that_was_to_be_asked_while_no_engine_was_there_is_judged_anew_once_there_is_one():
    async def main():
        engines = Engines(poison={POISON})
        gateways, one, two = pair(engines, "a")
        bad = await aboard(one, "p", POISON, seconds=0.5)
        assert engines.dead == {"a"}
        assert one._quarantine.asked is not None, "it has nowhere to go"
        one.hear(News("g3", suspected={mark(POISON): frozenset("b")}))
        for gateway in (one, two):
            see(gateway, "c")
        assert codes(await bad) == {"poisonous_request"}
        assert engines.dead == {"a"}, "with the one that another gateway saw die it has taken two"
        assert gateways.claims[-1].strikes == {mark(POISON): frozenset("ab")}
        one.check()

    run(main())


def test_whoever_learns_more_from_the_others_than_it_claimed_asks_nobody_before_it_has_claimed_that():
    async def main():
        engines, gateways = Engines(delays={"x": 5.0}), Gateways()
        made, late = (dispatcher(engines, "a", gateways=gateways, name=name) for name in ("g1", "g2"))
        innocent = await aboard(made, "x", 1)
        late._suspects.strike(mark(2), ["z"])  # known to it alone: the news of it reached nobody
        engines.kill("a")
        see(made, "b")
        assert codes(await innocent) == {"right"}
        (asked,) = [when for when, replica, _ in engines.calls if replica == "b"]
        assert [claim.strikes.keys() for claim in gateways.claims[:2]] == [{mark(1)}, {mark(1), mark(2)}]
        assert asked >= 1000 + 2 * gateways.lag

    run(main())


def test_who_was_cleared_is_not_suspected_again_by_a_claim_that_was_made_before():
    async def main():
        made = dispatcher(Engines(), "b")
        old = Claim(1, "another", {mark(1): frozenset("a")})
        await made.consent(old)
        assert codes(await made.submit([row("x", 1)], PATIENCE)) == {"right"}
        await made.consent(old)
        assert not made._suspects.suspected(mark(1))
        await made.consent(Claim(2, "another", {mark(1): frozenset("c")}))
        assert made._suspects.strikes() == {mark(1): frozenset("c")}, "what is new it was not cleared of"

    run(main())


def test_popular_rows_on_board_of_two_engines_that_die_at_once_are_refused_by_no_order_of_news():
    async def main():
        engines = Engines(poison={POISON})
        gateways, one, two = pair(engines, "a")
        for number, gateway in enumerate((one, two)):
            assert codes(await gateway.submit([row(f"known{number}", 1)], PATIENCE)) == {"right"}
        tasks = []
        for gateway, first, second in ((one, "a", "b"), (two, "b", "a")):
            for replica, seen in ((first, 0.0), (second, 0.1)):
                ident = f"x{len(tasks)}"
                engines.delays[ident], engines.unnoticed[ident] = 5.0, seen
                see(gateway, replica)
                tasks.append(await aboard(gateway, ident, 1))
        bad = []
        for gateway, replica in ((one, "a"), (two, "b")):
            see(gateway, replica)
            bad.append(asyncio.create_task(gateway.submit([row(f"p{replica}", POISON)], PATIENCE)))
        await asyncio.sleep(0.5)
        for gateway in (one, two):
            see(gateway, "c")
        assert codes(await replies_of(bad)) == {"poisonous_request"}
        assert codes(await replies_of(tasks)) == {"right"}, "each gateway vouches for them in either loss"
        assert (engines.dead, gateways.broken) == ({"a", "b"}, set())

    run(main())


def test_popular_rows_that_travel_on_from_one_dying_engine_to_the_other_are_refused_by_no_order_of_news():
    async def main():
        engines = Engines(poison={POISON}, delays={"xa": 5.0, "xb": 5.0, "pa": 0.1, "pb": 0.1})
        engines.unnoticed.update(pa=0.05, pb=0.05)  # each gateway sees the death first that the other one caused
        _, one, two = pair(engines, *"ab")
        tasks, bad = [], []
        for gateway, replica, other in ((one, "a", "b"), (two, "b", "a")):
            assert codes(await gateway.submit([row(f"known{replica}", 1)], PATIENCE)) == {"right"}
            see(gateway, replica)
            tasks.append(await aboard(gateway, f"x{replica}", 1))
            see(gateway, other)
            bad.append(await aboard(gateway, f"p{other}", POISON))
            see(gateway, "ab")
        await asyncio.sleep(0.5)
        assert engines.dead == {"a", "b"}
        journeys = [(on, ids) for _, on, ids in engines.calls if ids in (["xa"], ["xb"])]
        assert sorted(journeys) == [("a", ["xa"]), ("a", ["xb"]), ("b", ["xa"]), ("b", ["xb"])]
        for gateway in (one, two):
            see(gateway, "c")
        assert codes(await replies_of(bad)) == {"poisonous_request"}
        assert codes(await replies_of(tasks)) == {"right"}
        for gateway in (one, two):
            gateway.check()

    run(main())


async def random_world(chance, engines, made):
    """Thirty requests of few contents, and two clients with one poison: what each content came to."""
    outcome: dict[int, set[str]] = {}
    contents, queues, engines.cancel_s = chance.choice([6, 25]), chance.choice([0, 0.5, 1]), chance.choice([0, 0.05])

    async def client(ident, number, count):
        await asyncio.sleep(chance.uniform(0, 1))
        sent = [row(f"{ident}-{i}", number) for i in range(count)]
        for ticket in sent:
            engines.delays[ticket.id] = chance.choice([0.01, 0.1, 0.5])
            engines.unnoticed[ticket.id] = chance.choice([0.0, 0.0, 0.1])
        engines.queued.update(ticket.id for ticket in sent if chance.random() < queues)
        outcome.setdefault(number, set()).update(codes(await chance.choice(made).submit(sent, PATIENCE)))

    async def replaced():
        await asyncio.sleep(chance.uniform(0, 2))
        for gateway in made:
            see(gateway, "".join(sorted({*"abcdef"} - engines.dead)))

    await asyncio.gather(
        *(client(f"t{i}", chance.randint(1, contents), chance.randint(1, 4)) for i in range(30)),
        *(client(f"p{i}", POISON, 1) for i in range(2)),
        replaced(),
    )
    await asyncio.sleep(1)
    return outcome


@pytest.mark.parametrize("seed", range(500))
def test_in_any_world_one_poison_takes_two_engines_and_proof_meets_nobody_else(seed):
    """Several gateways that hear of news and of deaths late, and slow rows: a poison kills a while after it left.

    Where both copies kill before anybody is asked, nothing tells it from rows that were on board of both engines.
    """

    async def main():
        chance = random.Random(seed)
        engines, gateways = Engines(poison={POISON}), Gateways(lag=chance.choice([0.001, 0.02, 0.2]))
        names = [f"g{i}" for i in range(chance.randint(1, 3))]
        made = [dispatcher(engines, *"ab", gateways=gateways, name=name) for name in names]
        outcome = await random_world(chance, engines, made)
        assert len(engines.dead) <= 2
        assert outcome.pop(POISON) == {"poisonous_request"}
        known = [gateway._suspects.convictions() for gateway in made]
        proven = {print_ for found in known for print_, conviction in found.items() if conviction.proven}
        assert proven <= {mark(POISON)}
        number_of = {t.id: int(t.input_ids[0]) for t in engines.sent}
        carried = {r: {number_of[t] for _, on, ids in engines.calls if on == r for t in ids} for r in engines.dead}
        both = set() if proven else set.intersection(*carried.values())
        assert {number for number, codes in outcome.items() if codes != {"right"}} <= both
        for gateway in made:
            gateway.check()

    run(main())
