"""The engine's shell: replies leave in groups, an early end cancels, an operator gets words."""

import asyncio
import threading
from dataclasses import replace

import pytest

from serving.errors import DependencyFailed
from serving.replicas.engine import EngineReplica
from serving.request import Desired, Refusal, ReplicaReport, ResidencyEntry, TenantLine
from tests.serving.test_affinity import ref, ticket

REPORT = ReplicaReport("e1", ready=True, budgets={}, used={}, counters={}, entries=(), queued=0, running=0)


class Engine:
    """Answers groups from another thread when it is told to."""

    def __init__(self):
        self.sink = None
        self.cancelled = []
        self.said = REPORT
        self.submitted = threading.Event()
        self.retired, self.desired, self.reconciled = [], [], []
        self.warm, self.revision, self.layers, self.max_queued = False, -1, 6, 10
        self.closed = False
        self.go = threading.Event()
        self.go.set()

    def submit(self, tickets, sink):
        self.sink = sink
        self.submitted.set()

    def answer(self, *ids):
        group = tuple(Refusal(ident, "x", "y", "e1") for ident in ids)
        thread = threading.Thread(target=self.sink, args=(group,))
        thread.start()
        thread.join()

    def cancel(self, ids):
        self.cancelled.append(tuple(ids))

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


@pytest.fixture
def shell():
    made = EngineReplica.__new__(EngineReplica)
    made._replica, made._engine = "e1", Engine()
    made._keeping = None
    return made


def tickets(*ids):
    return tuple(ticket("x", ident=ident) for ident in ids)


def ids(group):
    return [reply.ticket for reply in group]


def test_groups_leave_as_they_finish_and_the_stream_ends_with_the_last(shell):
    async def main():
        stream = shell.predict(tickets("t1", "t2", "t3"), replica="e1")
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        shell._engine.answer("t2")
        assert ids(await first) == ["t2"]
        shell._engine.answer("t1", "t3")
        assert ids(await anext(stream)) == ["t1", "t3"]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert shell._engine.cancelled == []

    asyncio.run(main())


def test_groups_that_wait_leave_together(shell):
    async def main():
        stream = shell.predict(tickets("t1", "t2"), replica="e1")
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        shell._engine.answer("t2")
        shell._engine.answer("t1")
        assert ids(await first) == ["t2", "t1"]

    asyncio.run(main())


def test_an_early_end_cancels_what_is_left(shell):
    async def main():
        stream = shell.predict(tickets("t1", "t2"), replica="e1")
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        shell._engine.answer("t1")
        await first
        await stream.aclose()
        assert shell._engine.cancelled == [("t2",)]

    asyncio.run(main())


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
        await shell.cancel(["t9"], replica="e1")
        assert shell._engine.cancelled == [("t9",)]

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
