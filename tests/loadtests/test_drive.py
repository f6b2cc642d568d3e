import asyncio

import numpy as np
import pytest

from loadtests.drive import RIGHT, Outcome, drive
from loadtests.trace import Trace

TRACE = Trace(np.array([0.5, 1.0, 4.0]), np.array([3, 0, 3]), np.array([0, 1, 0]))
OK = Outcome(RIGHT, 200, "hit")


class ManualTime:
    """A clock that only a sleeper moves."""

    def __init__(self):
        self.now = 100.0

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        until = self.now + seconds
        await asyncio.sleep(0)  # whoever was just sent runs before time moves on
        self.now = max(self.now, until)


def test_every_request_leaves_while_no_answer_has_come():
    time, left, gate = ManualTime(), [], asyncio.Event()

    async def send(index):
        left.append((index, time.now - 100.0))
        if len(left) == len(TRACE):
            gate.set()
        await gate.wait()  # nobody is answered before everybody has left
        return OK

    samples = asyncio.run(drive(TRACE, send, time.clock, time.sleep))
    assert left == [(0, 0.5), (1, 1.0), (2, 4.0)]
    assert [sample.done for sample in samples] == [4.0] * 3
    assert [sample.latency for sample in samples] == [3.5, 3.0, 0.0]
    assert [sample.adapter for sample in samples] == [3, 0, 3]


def test_latency_counts_from_when_a_request_was_due():
    time = ManualTime()

    async def send(index):
        if index == 0:
            time.now += 10.0  # something holds the sender up
        return OK

    first, second, third = asyncio.run(drive(TRACE, send, time.clock, time.sleep))
    assert (first.sent, first.latency) == (0.5, 10.0)
    assert second.due == 1.0
    assert second.sent == 10.5
    assert second.latency == 9.5
    assert third.latency == 6.5


def test_samples_come_in_the_order_of_the_trace():
    time = ManualTime()

    async def send(index):
        for _ in range(10 - index):
            await asyncio.sleep(0)
        return OK

    samples = asyncio.run(drive(TRACE, send, time.clock, time.sleep))
    assert [sample.index for sample in samples] == [0, 1, 2]


def test_a_bug_in_sending_is_not_an_outcome():
    async def send(index):
        raise RuntimeError("bug")

    time = ManualTime()
    with pytest.raises(ExceptionGroup):
        asyncio.run(drive(TRACE, send, time.clock, time.sleep))
