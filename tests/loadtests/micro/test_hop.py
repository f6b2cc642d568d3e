import asyncio
import sys
from types import ModuleType, SimpleNamespace

import pytest

from loadtests.micro import hop
from serving import deployment
from serving.dispatch import lanes
from serving.dispatch.wires import Wires
from serving.request import Refusal
from tests.serving.test_affinity import ticket
from tests.serving.test_routing import Handle


def test_a_call_carries_one_ticket_to_the_replica_that_is_named():
    async def main():
        handle = Handle({"predict": "reply"})
        calls = hop.Calls(handle)
        calls.observe({})
        await calls.cancel("e1", ["t"])
        sent = ticket(ident="t")
        assert [group async for group in calls.call("e1", [sent])] == [("reply",)]
        assert handle.asked == [("predict", (sent,), {"replica": "e1"})]

    asyncio.run(main())


def test_calls_can_be_asked_all_that_wires_can():
    assert {name for name in vars(Wires) if not name.startswith("_")} <= vars(hop.Calls).keys()


def test_a_scattering_gateway_gathers_nothing(monkeypatch):
    monkeypatch.setattr(lanes, "OPEN_CALLS", 8)
    monkeypatch.setattr(lanes, "TICKETS_PER_CALL", 256)

    class Gateway:
        def __init__(self, engines):
            self._engines, self._wires = engines, None

    made = hop.scattering(Gateway)(Handle())
    assert isinstance(made, Gateway)
    assert isinstance(made._wires, hop.Calls)
    assert (lanes.OPEN_CALLS, lanes.TICKETS_PER_CALL) == (hop.ENDLESS, 1)


def test_an_engine_answers_a_call_by_its_queue():
    class Engine:
        def submit(self, tickets, sink):
            sink(tuple(Refusal(t.id, "x", "y", "e1") for t in tickets))

    class Replica:
        _engine = Engine()

    answer = asyncio.run(hop.called(Replica)().predict(ticket(ident="t"), replica="e1"))
    assert answer.ticket == "t"


@pytest.mark.parametrize("name", ["gateway", "engine"])
def test_the_service_is_that_of_the_product_but_for_these_two(monkeypatch, name):
    parts = {"gateway": ModuleType("gateway"), "engine": ModuleType("engine")}
    parts["gateway"].Gateway, parts["engine"].EngineReplica = (type(kind, (), {}) for kind in ("G", "E"))
    monkeypatch.setitem(sys.modules, "serving.replicas", SimpleNamespace(**parts))
    seen = []
    monkeypatch.setattr(deployment, "application", lambda *given: seen.append(given) or "app")
    monkeypatch.setattr("loadtests.micro.hop.cli.main", lambda: seen.append(deployment.application("s", "p")))
    hop.main()
    assert seen == [("s", "p"), "app"]
    made = getattr(parts[name], {"gateway": "Gateway", "engine": "EngineReplica"}[name])
    assert made.__name__ == {"gateway": "Scattering", "engine": "Called"}[name]
