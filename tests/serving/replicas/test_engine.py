"""The engine's shell: gateways hear where it is and what it holds, an operator gets words, and it ends in peace."""

import asyncio
import threading
from dataclasses import replace

import pytest

from serving.config import ServiceSettings
from serving.errors import DependencyFailed
from serving.replicas import engine
from serving.replicas.engine import EngineReplica
from serving.request import Address, Desired, ReplicaReport, ResidencyEntry, TenantLine
from tests.serving.test_affinity import ref

ADDRESS = Address("127.0.0.1", 7, "p", "c")
REPORT = ReplicaReport("e1", ready=True, budgets={}, used={}, counters={}, entries=(), queued=0, running=0)


class Engine:
    """What a shell asks of an engine."""

    def __init__(self):
        self.said = REPORT
        self.retired, self.desired, self.reconciled = [], [], []
        self.warm, self.revision, self.layers, self.max_queued = False, -1, 6, 10
        self.closed = False
        self.go = threading.Event()
        self.go.set()

    def report(self):
        return self.said

    def preload(self, ref):
        raise DependencyFailed(f"{ref.name} is torn")

    def pin(self, ref):
        return "device"

    def room(self, refs):
        if refs[0].name == "torn":
            raise DependencyFailed("torn")
        return 700, 300

    def desire(self, desired):
        self.desired.append(desired)
        self.revision = max(self.revision, desired.revision)

    def reconcile(self):
        self.reconciled.append(self.revision)
        assert self.go.wait(20)
        self.warm = True

    def waiting(self, limit):
        return 60, 2, (TenantLine("a", 2, 40, 1.0), TenantLine("b", 1, 20, 2.0))[:limit]

    def drain(self, timeout_s):
        return timeout_s > 1.0

    def close(self):
        self.closed = True

    def retire(self, ref):
        self.retired.append(ref.name)

    def unload(self, ref):
        return "in use"

    def metrics_text(self):
        return "text"


class Listener:
    """Listens nowhere, and notes its end."""

    def __init__(self, *_):
        self.closed = False

    async def address(self):
        return ADDRESS

    async def close(self):
        self.closed = True


@pytest.fixture
def shell(tmp_path, monkeypatch):
    class Builder:
        build = staticmethod(lambda *_: Engine())

    fakes = {"settle": lambda *_: "e1", "settled": lambda: None, "yielding": lambda _: Builder, "Listener": Listener}
    for name, fake in fakes.items():
        monkeypatch.setattr(engine, name, fake)
    return EngineReplica(ServiceSettings(backbone=tmp_path, data=tmp_path))


def test_gateways_hear_where_it_listens(shell):
    assert asyncio.run(shell.holdings(Desired(0))).listens == ADDRESS


def test_ray_serve_finds_what_python_does_not_call(shell):
    assert shell.__del__ == shell._leave
    assert not hasattr(EngineReplica, "__del__")


def test_a_replica_that_leaves_finishes_first(shell):
    drained = []
    shell._engine.drain = lambda timeout_s: drained.append((timeout_s, shell._listener.closed)) is None
    asyncio.run(shell.__del__())
    assert drained == [(120.0, False)]
    assert shell._listener.closed
    assert not shell._engine.closed


def test_routing_hears_of_what_needs_no_disk(shell):
    held = [
        ResidencyEntry("acme", f"sha256:{tier}", tier, 1, 0, pinned=False, hits=0, loads=1)
        for tier in ("disk", "host", "device")
    ]
    shell._engine.said = replace(REPORT, entries=tuple(held))
    held = asyncio.run(shell.holdings(Desired(0)))
    assert held.keys == frozenset({("acme", "sha256:host"), ("acme", "sha256:device")})


def test_admission_hears_of_what_waits_and_how_fast_it_goes(shell):
    shell._engine.said = replace(REPORT, cost_per_s=1500.0, queued=4)
    held = asyncio.run(shell.holdings(Desired(3)))
    assert (held.queued_cost, held.cost_per_s, held.layers, held.revision) == (60, 1500.0, 6, 3)
    assert held.lines == (("a", 40), ("b", 20))
    assert held.free_rows == 6


def test_gateways_hear_whose_bytes_are_bad(shell):
    assert asyncio.run(shell.holdings(Desired(0))).bad == frozenset()
    shell._engine.said = replace(REPORT, bad=frozenset({"sha256:x"}))
    assert asyncio.run(shell.holdings(Desired(0))).bad == {"sha256:x"}


def test_a_queue_that_is_over_its_bound_has_no_free_rows(shell):
    shell._engine.said = replace(REPORT, queued=11)
    assert asyncio.run(shell.holdings(Desired(0))).free_rows == 0


def test_an_engine_is_warm_once_its_pins_are_there_and_asked_only_once_meanwhile(shell):
    async def main():
        shell._engine.go.clear()
        assert not (await shell.holdings(Desired(1))).warm
        assert not (await shell.holdings(Desired(2))).warm
        shell._engine.go.set()
        await shell._keeping
        assert (await shell.holdings(Desired(2))).warm
        await shell._keeping
        assert len(shell._engine.reconciled) == 2
        assert [desired.revision for desired in shell._engine.desired] == [1, 2, 2]

    asyncio.run(main())


def test_an_operator_hears_how_much_room_pins_have(shell):
    async def main():
        assert await shell.room([ref("x")]) == ("e1", 700, 300)
        with pytest.raises(DependencyFailed):
            await shell.room([ref("torn")])

    asyncio.run(main())


def test_a_drained_engine_finishes_what_it_can_and_gives_the_rest_back(shell):
    async def main():
        assert await shell.drain(5.0) == ("e1", True)
        assert not shell._engine.closed
        assert await shell.drain(0.5) == ("e1", False)
        assert shell._engine.closed, "nothing is on board when the process ends"

    asyncio.run(main())


def test_retired_packages_leave(shell):
    asyncio.run(shell.retire([ref("x"), ref("y")]))
    assert shell._engine.retired == ["x", "y"]


def test_an_operator_gets_an_outcome_or_the_error_in_words(shell):
    async def main():
        assert await shell.preload(ref("x"), pinned=False) == ("e1", "error: x is torn")
        assert await shell.preload(ref("x"), pinned=True) == ("e1", "device")
        assert await shell.unload(ref("x")) == ("e1", "in use")
        assert await shell.metrics() == ("e1", "text")

    asyncio.run(main())


def test_an_engine_whose_thread_ended_is_ill(shell):
    async def main():
        await shell.check_health()
        shell._engine.said = replace(REPORT, ready=False, faults=("the forward thread does not run",))
        with pytest.raises(RuntimeError, match="forward thread"):
            await shell.check_health()

    asyncio.run(main())


def test_the_shell_can_be_pickled_without_torch():
    code = "import sys, serving.replicas.engine; assert 'torch' not in sys.modules"
    import subprocess
    import sys
    from pathlib import Path

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
