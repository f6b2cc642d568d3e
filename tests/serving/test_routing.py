"""Ray's handles behind plain protocols, on handles that remember what they were asked."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.serve._private.constants import REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD
from ray.serve.exceptions import DeploymentUnavailableError

from serving.asking import ANSWER_S
from serving.config import HEALTH_CHECK_S, HUNG_S, REPLACED_S
from serving.dispatch.ports import Claim, News, ReplicaLeft
from serving.engine.engine import LOAD_SECONDS
from serving.errors import NotReady
from serving.request import Desired, Holding, ReplicaReport
from serving.routing import GLANCE_S, LOAD_S, Fleet, GatewayCalls, HintedRouter
from tests.serving.test_affinity import ref
from tests.serving.virtual_time import run

NOBODY = DeploymentUnavailableError.__new__(DeploymentUnavailableError)


@dataclass
class Handle:
    """A deployment handle; `answers` maps a method to what it answers, or to a function of the arguments."""

    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    method: str = ""

    def options(self, *, method_name, **_):
        return Handle(self.answers, self.asked, method_name)

    def remote(self, *args, **kwargs):
        self.asked.append((self.method, args, kwargs))
        answer = self.answers[self.method]

        async def respond():
            found = answer.get(kwargs["replica"], RayActorError()) if isinstance(answer, dict) else answer
            if isinstance(found, TimeoutError):
                await asyncio.sleep(3600)
            if isinstance(found, RayActorError):
                raise found
            return found

        return respond()

    def broadcast(self, method, *args):
        self.asked.append((method, args))
        answer = self.answers[method]

        async def results_async(*, timeout_s, return_exceptions):
            assert return_exceptions
            found = answer(*args) if callable(answer) else answer
            if isinstance(found, TimeoutError):
                await asyncio.sleep(timeout_s)
            if isinstance(found, BaseException):
                raise found
            return found

        return SimpleNamespace(results_async=results_async)


def replica(name):
    return SimpleNamespace(replica_id=SimpleNamespace(unique_id=name))


def pending(**kwargs):
    future = asyncio.get_running_loop().create_future()
    return SimpleNamespace(kwargs=kwargs, future=future, routing_context=SimpleNamespace(should_backoff=False))


def test_a_call_goes_to_the_named_replica_and_to_no_other():
    router, replicas = HintedRouter.__new__(HintedRouter), [replica("a"), replica("b")]

    async def main():
        request = pending(replica="b")
        assert await router.choose_replicas(replicas, request) == [[replicas[1]]]
        assert request.routing_context.should_backoff
        assert not request.future.done()
        assert await router.choose_replicas(replicas, pending()) == [replicas]
        assert await router.choose_replicas(replicas) == [replicas]

    run(main())


def test_a_call_to_a_replica_that_is_gone_ends():
    router, replicas = HintedRouter.__new__(HintedRouter), [replica("a"), replica("b")]

    async def main():
        request = pending(replica="gone")
        assert await router.choose_replicas(replicas, request), "Ray would ask again at once"
        with pytest.raises(ReplicaLeft, match="gone"):
            await request.future
        await router.choose_replicas(replicas, request)

    run(main())


@dataclass
class Watched:
    """A fleet whose engines answer what `engines.answers` says, and what it told its observer."""

    engines: Handle
    gateways: Handle = field(default_factory=Handle)
    told: list = field(default_factory=list)

    def __post_init__(self):
        self.gateways.answers.setdefault("present", ["gw1"])
        self.gone, self.silent = [], []
        self.fleet = Fleet(
            self.engines,
            self.gateways,
            own="gw1",
            observe=self.told.append,
            desired=lambda: DESIRED,
            gone=self.gone.append,
            silent=self.silent.append,
        )


RESOLVED = SimpleNamespace(version=SimpleNamespace(ref=ref("x")))
REPORT = ReplicaReport("b", ready=True, budgets={}, used={}, counters={}, entries=(), queued=0, running=0)
DESIRED = Desired(3, (ref("pinned"),))
HELD = frozenset([ref("x").key])


def test_the_fleet_is_ready_once_an_engine_answers_and_tells_what_it_holds():
    async def main():
        engines = Handle({"holdings": NOBODY})
        watched = Watched(engines)
        start = asyncio.create_task(watched.fleet.start())
        await asyncio.sleep(5)
        assert not start.done()
        assert not await watched.fleet.ready()
        engines.answers["holdings"] = [Holding("a", HELD)]
        await start
        assert await watched.fleet.ready()
        assert watched.told[-1] == watched.fleet.holdings() == {"a": Holding("a", HELD)}
        engines.answers["holdings"] = [Holding("b", frozenset(), warm=False)]
        await asyncio.sleep(1.5)
        assert watched.told[-1] == watched.fleet.holdings() == {"b": Holding("b", frozenset(), warm=False)}
        engines.answers["holdings"] = NOBODY
        await asyncio.sleep(1.5)
        assert not await watched.fleet.ready()
        assert watched.told[-1] == {}
        await watched.fleet.stop()
        count = len(watched.told)
        await asyncio.sleep(60)
        assert len(watched.told) == count

    run(main())


def test_engines_that_are_not_there_any_more_are_counted_once():
    async def main():
        engines = Handle({"holdings": [Holding("a", HELD), Holding("b", HELD)]})
        watched = Watched(engines)
        await watched.fleet.start()
        engines.answers["holdings"] = [Holding("b", HELD), Holding("c", HELD)]
        await asyncio.sleep(3.5)
        assert sum(watched.gone) == 1
        engines.answers["holdings"] = NOBODY
        await asyncio.sleep(3.5)
        assert sum(watched.gone) == 3
        await watched.fleet.stop()

    run(main())


def test_an_engine_that_hangs_does_not_make_the_others_disappear():
    async def main():
        engines = Handle({"holdings": [Holding("a", HELD)]})
        watched = Watched(engines)
        await watched.fleet.start()
        engines.answers["holdings"] = TimeoutError()
        await asyncio.sleep(60)
        assert watched.told[-1] == {"a": Holding("a", HELD)}
        assert await watched.fleet.ready()
        await watched.fleet.stop()

    run(main())


def test_a_bug_in_what_is_told_of_the_engines_does_not_end_the_watch():
    async def main():
        engines = Handle({"holdings": [Holding("a", HELD)]})
        watched = Watched(engines)
        await watched.fleet.start()
        watched.fleet._observe = lambda _: 1 / 0
        await asyncio.sleep(10)
        watched.fleet._observe = watched.told.append
        engines.answers["holdings"] = [Holding("b", HELD)]
        await asyncio.sleep(2)
        assert watched.told[-1] == {"b": Holding("b", HELD)}
        await watched.fleet.stop()

    run(main())


def test_the_fleet_counts_the_gateways_that_live_and_keeps_its_share_while_one_hangs():
    async def main():
        watched = Watched(Handle({"holdings": [Holding("a", HELD)]}))
        assert watched.fleet.gateways() == 1, "nobody was asked yet"
        for answer, count in ((["gw1", "gw2", "gw3"], 3), (TimeoutError(), 3), ([], 1), (["gw1", "gw2"], 2)):
            watched.gateways.answers["present"] = answer
            await (watched.fleet.start() if watched.fleet._task is None else asyncio.sleep(10))
            await asyncio.sleep(2)
            assert watched.fleet.gateways() == count
        await watched.fleet.stop()

    run(main())


async def seen(answers) -> Fleet:
    """A fleet that has seen two engines, which answer like this."""
    fleet = Watched(Handle({"holdings": [Holding("b", HELD), Holding("a", HELD)], **answers})).fleet
    await fleet.start()
    await fleet.stop()
    return fleet


def test_an_act_that_one_engine_does_not_answer_is_told_of_it_and_of_all_others():
    async def main():
        fleet = await seen(
            {
                "preload": {"a": ("a", "device"), "b": TimeoutError()},
                "unload": {"a": ("a", "unloaded")},
                "report": {"a": TimeoutError(), "b": REPORT},
            }
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = await fleet.preload(RESOLVED, pinned=True)
        assert told == {"a": "device", "b": f"error: no answer in {LOAD_S:g} s"}
        assert loop.time() - began == pytest.approx(LOAD_S)
        assert await fleet.unload(RESOLVED) == {"a": "unloaded", "b": "error: this replica is gone"}
        silent, told = await fleet.reports()
        assert (silent.replica, silent.ready, silent.faults) == ("a", False, (f"no answer in {ANSWER_S:g} s",))
        assert told is REPORT

    run(main())


def test_an_engine_says_why_it_could_not_load_before_the_question_ends():
    assert LOAD_S > LOAD_SECONDS


def test_every_engine_is_asked_for_room_and_one_without_numbers_has_none_to_give():
    async def main():
        fleet = await seen({"room": {"b": ("b", 10, 5), "a": ("a", 10, 20)}})
        assert await fleet.room([ref("x")]) == [("a", 10, 20), ("b", 10, 5)]
        fleet = await seen({"room": {"a": ("a", 10, 20)}})
        assert await fleet.room([ref("x")]) == [("a", 10, 20)]

    run(main())


def test_nobody_knows_how_much_room_there_is_where_an_engine_is_silent_or_none_is_there():
    async def main():
        fleet = await seen({"room": {"a": ("a", 10, 20), "b": TimeoutError()}})
        with pytest.raises(NotReady, match="b gave no answer in 35 s") as caught:
            await fleet.room([ref("x")])
        assert caught.value.retry_after == HUNG_S
        with pytest.raises(NotReady, match="no engine") as caught:
            await Watched(Handle()).fleet.room([ref("x")])
        assert caught.value.retry_after == REPLACED_S

    run(main())


def test_whoever_met_an_engine_that_hangs_comes_again_when_ray_has_replaced_it():
    assert HUNG_S > HEALTH_CHECK_S * REPLICA_HEALTH_CHECK_UNHEALTHY_THRESHOLD


def test_a_gateway_that_fails_at_a_claim_may_have_anything_on_board():
    async def main():
        for answers in ([frozenset("x"), ValueError("a bug")], [asyncio.CancelledError(), RayActorError()]):
            with pytest.raises(RuntimeError, match="gateways could not say which suspects they have on board"):
                await GatewayCalls(Handle({"consent": answers})).claim(Claim(1, "gw1", {}))
        assert await GatewayCalls(Handle({"consent": NOBODY})).claim(Claim(1, "gw1", {})) == frozenset()

    run(main())


def test_gateways_claim_and_tell_by_broadcast():
    async def main():
        gateways = Handle(
            {"consent": [frozenset("x"), RayActorError(), frozenset("yz")], "hear": [News("gw2"), RayActorError()]}
        )
        claim, news = Claim(1, "gw1", {}), News("gw1")
        assert await GatewayCalls(gateways).claim(claim) == frozenset("xyz")
        assert await GatewayCalls(gateways).tell(news) == [News("gw2")]
        assert gateways.asked == [("consent", (claim,)), ("hear", (news,))]
        gateways.answers.update(consent=TimeoutError(), hear=NOBODY)
        with pytest.raises(TimeoutError):  # what a gateway that hangs has on board, nobody knows
            await GatewayCalls(gateways).claim(claim)
        assert await GatewayCalls(gateways).tell(news) == []

    run(main())


def test_every_question_tells_the_engines_what_is_pinned():
    async def main():
        engines = Handle({"holdings": [Holding("a", HELD)]})
        watched = Watched(engines)
        await watched.fleet.start()
        await asyncio.sleep(2)
        assert len(engines.asked) > 1
        assert set(engines.asked) == {("holdings", (DESIRED,))}
        await watched.fleet.stop()

    run(main())


def test_retired_packages_are_named_to_every_engine_and_none_to_nobody():
    async def main():
        loop, gone = asyncio.get_running_loop(), (ref("x"), ref("y"))
        fleet = await seen({"retire": TimeoutError()})
        engines, began = fleet._engines, loop.time()
        await fleet.retire([])
        assert {asked[0] for asked in engines.asked} == {"holdings"}
        await fleet.retire(gone)
        assert engines.asked[-1] == ("retire", (gone,)), "all of them, not those alone that were seen before"
        assert loop.time() - began == pytest.approx(GLANCE_S), "one that hangs holds no write up for longer"

    run(main())


def test_an_operator_hears_of_every_replica():
    def report(name):
        return ReplicaReport(name, ready=True, budgets={}, used={}, counters={}, entries=(), queued=0, running=0)

    async def main():
        answers = {
            "holdings": [Holding("b", HELD), Holding("a", HELD)],
            "report": {"a": report("a"), "b": report("b")},
            "preload": {"a": ("a", "device"), "b": ("b", "error: no room")},
            "unload": {"a": ("a", "unloaded"), "b": ("b", "in use")},
            "metrics": {"a": ("a", "text of a"), "b": ("b", "text of b")},
        }
        gateways = Handle({"metrics": [("gw1", "own"), ("gw2", "text of gw2")]})
        engines = Handle(answers)
        fleet = Watched(engines, gateways).fleet
        assert await fleet.preload(RESOLVED, pinned=True) == {}, "nobody is there"
        await fleet.start()
        await fleet.stop()
        assert [r.replica for r in await fleet.reports()] == ["a", "b"]
        assert await fleet.preload(RESOLVED, pinned=True) == {"a": "device", "b": "error: no room"}
        assert engines.asked[-1] == ("preload", (ref("x"), True), {"replica": "b"})
        assert await fleet.unload(RESOLVED) == {"a": "unloaded", "b": "in use"}
        assert await fleet.metrics() == {"a": "text of a", "b": "text of b", "gw2": "text of gw2"}

    run(main())


@pytest.mark.parametrize(
    ("engines", "gateways", "texts", "silent"),
    [
        ({"a": ("a", "1"), "b": ("b", "2")}, [("gw1", "own"), ("gw2", "3")], {"a": "1", "b": "2", "gw2": "3"}, 0),
        ({"a": TimeoutError(), "b": ("b", "2")}, [("gw1", "own"), ("gw2", "3")], {"b": "2", "gw2": "3"}, 1),
        ({"b": ("b", "2")}, [("gw1", "own"), ("gw2", "3")], {"b": "2", "gw2": "3"}, 0),
        ({"b": ("b", "2")}, [("gw1", "own")], {"b": "2"}, 1),
        ({"a": TimeoutError()}, [(f"gw{n}", "3") for n in (1, 2, 3)], {"gw2": "3", "gw3": "3"}, 1),
        ({"a": TimeoutError(), "b": ("b", "2")}, TimeoutError(), {"b": "2"}, 2),
    ],
)
def test_metrics_wait_a_short_while_and_count_who_hangs_and_nobody_who_is_gone(engines, gateways, texts, silent):
    async def main():
        answers = {"holdings": [Holding("a", HELD), Holding("b", HELD)], "metrics": engines}
        watched = Watched(Handle(answers), Handle({"present": ["gw1", "gw2"], "metrics": gateways}))
        await watched.fleet.start()
        await watched.fleet.stop()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await watched.fleet.metrics() == texts
        assert watched.silent == [silent]
        hangs = any(isinstance(answer, TimeoutError) for answer in (gateways, *engines.values()))
        assert loop.time() - began == pytest.approx(GLANCE_S if hangs else 0.0)

    run(main())


def test_a_nudge_reaches_all_gateways_and_gives_up_after_a_while():
    async def main():
        loop = asyncio.get_running_loop()
        gateways = Handle({"refresh": ["gw1", "gw2"]})
        fleet = Watched(Handle(), gateways).fleet
        await fleet.nudge(7)
        assert gateways.asked == [("refresh", (7,))]
        gateways.answers["refresh"] = TimeoutError()
        began = loop.time()
        await fleet.nudge(8)
        assert loop.time() - began == pytest.approx(1.5)

    run(main())
