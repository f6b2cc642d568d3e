import asyncio
from itertools import pairwise

import pytest

from loadtests.proofs.steady import Sample, Steady, faults


def test_requests_leave_in_turn_whatever_became_of_the_ones_before():
    async def scenario():
        asked, late = [], asyncio.Event()

        async def ask(number):
            asked.append(number)
            if number == 0:
                await late.wait()  # answered only after three others
            if number == 3:
                late.set()
                steady._over.set()
            return "failed" if number == 2 else ""

        steady = Steady(ask, rate=1000)
        steady.start()
        await steady.stop()
        return asked, steady.samples

    async def stopped_by_itself():
        return await asyncio.wait_for(scenario(), 60)

    asked, samples = asyncio.run(stopped_by_itself())
    assert asked == sorted(asked)
    assert len(samples) == len(asked)
    assert faults(samples) == ({"failed": 1} if 2 in asked else {})


def test_latency_counts_from_the_time_at_which_a_request_was_due():
    async def scenario():
        seen = asyncio.Event()

        async def ask(number):
            if number == 2:
                seen.set()
            return ""

        steady = Steady(ask, rate=500)
        steady.start()
        await seen.wait()
        await steady.stop()
        return sorted(steady.samples, key=lambda sample: sample.due)

    samples = asyncio.run(scenario())
    gaps = [after.due - before.due for before, after in pairwise(samples)]
    assert gaps == pytest.approx([1 / 500] * len(gaps))
    assert all(sample.seconds >= 0 for sample in samples)


def test_a_bug_in_asking_is_not_swallowed():
    async def scenario():
        async def ask(number):
            raise RuntimeError("a bug")

        steady = Steady(ask, rate=100)
        steady.start()
        await asyncio.wait({steady._task})
        await steady.stop()

    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        asyncio.run(scenario())


def test_a_window_holds_what_was_due_in_it():
    steady = Steady(None, 1.0)
    steady.samples = [Sample(due, 0.1, "") for due in (1.0, 2.0, 3.0)]
    assert [sample.due for sample in steady.between(1.0, 3.0)] == [1.0, 2.0]


def test_a_request_is_of_every_window_that_it_overlaps():
    steady = Steady(None, 1.0)
    steady.samples = [Sample(1.0, 0.5, "before"), Sample(1.5, 1.0, "on its way"), Sample(3.9, 9.0, "late")]
    assert [sample.fault for sample in steady.during(2.0, 4.0)] == ["on its way", "late"]
    assert [sample.fault for sample in steady.during(4.0, 6.0)] == ["late"]
    assert [sample.fault for sample in steady.during(0.0, 1.5)] == ["before"]


def test_faults_are_counted_by_what_was_wrong():
    samples = [Sample(0, 0, ""), Sample(1, 0, "503"), Sample(2, 0, "503"), Sample(3, 0, "wrong: x")]
    assert faults(samples) == {"503": 2, "wrong: x": 1}
