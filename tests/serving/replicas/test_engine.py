"""The engine's shell: replies leave in groups, an early end cancels, an operator gets words."""

import asyncio
import threading
from dataclasses import replace

import pytest

from serving.errors import DependencyFailed
from serving.replicas.engine import EngineReplica
from serving.request import Desired, Holding, Refusal, ReplicaReport, ResidencyEntry
from tests.serving.test_affinity import ref, ticket

REPORT = ReplicaReport("e1", ready=True, budgets={}, used={}, counters={}, entries=(), queued=0, running=0)


class Engine:
    """Answers groups from another thread when it is told to."""

    def __init__(self):
        self.sink = None
        self.cancelled = []
        self.said = REPORT
        self.submitted = threading.Event()
        self.pins, self.torn, self.retired = [], set(), []

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
        if ref.name in self.torn:
            raise DependencyFailed(f"{ref.name} is torn")
        self.pins.append(ref.name)
        return "device"

    def unpin(self, ref):
        self.pins.remove(ref.name)

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
    made._desired, made._kept, made._failed, made._keeping = Desired(0), {}, {}, None
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
    assert held == Holding("e1", frozenset({("acme", "sha256:host"), ("acme", "sha256:device")}), revision=0)


async def told(shell, revision, *names):
    await shell.holdings(Desired(revision, tuple(ref(name) for name in names)))
    await shell._keeping
    return sorted(shell._engine.pins)


def test_pins_become_what_the_newest_revision_says(shell):
    async def main():
        assert await told(shell, 5, "x", "y") == ["x", "y"]
        assert await told(shell, 6, "y", "z") == ["y", "z"]
        assert await told(shell, 5, "x") == ["y", "z"]  # a gateway that is behind
        assert await told(shell, 7) == []

    asyncio.run(main())


def test_what_could_not_be_pinned_is_tried_again(shell, caplog):
    async def main():
        shell._engine.torn = {"x"}
        assert await told(shell, 1, "x", "y") == ["y"]
        assert await told(shell, 1, "x", "y") == ["y"]
        assert len(shell._failed) == 1
        shell._engine.torn = set()
        assert await told(shell, 1, "x", "y") == ["x", "y"]

    asyncio.run(main())


def test_a_pin_by_hand_lasts_until_the_registry_says_otherwise(shell):
    async def main():
        await shell.preload(ref("x"), pinned=True)
        assert await told(shell, 4, "x") == ["x"]
        await shell.unload(ref("x"))
        assert shell._kept == {}
        shell._engine.pins.clear()
        assert await told(shell, 5) == []

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
        shell._engine.said = replace(REPORT, ready=False)
        with pytest.raises(RuntimeError, match="forward thread"):
            await shell.check_health()

    asyncio.run(main())


def test_the_shell_can_be_pickled_without_torch():
    code = "import sys, serving.replicas.engine; assert 'torch' not in sys.modules"
    import subprocess
    import sys
    from pathlib import Path

    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
