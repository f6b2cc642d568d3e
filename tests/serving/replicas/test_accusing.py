"""Engines that find bytes wrong are heard."""

import asyncio

import numpy as np
import pytest

from serving.errors import NotReady
from serving.replicas.accusing import Accusing
from serving.request import Holding, Refusal, Result, Timing
from tests.serving.test_affinity import ref, ticket


class Submit:
    def __init__(self, codes):
        self.codes = codes

    async def submit(self, tickets, timeout_s):
        return [
            Refusal(t.id, code, "no", "e1") if code else Result(t.id, np.zeros(1), Timing(0, 0, 0), {}, "e1", 1)
            for t, code in zip(tickets, self.codes, strict=True)
        ]


async def asked_of(codes, report=None):
    asked = []

    async def note(digest):
        asked.append(digest)
        if report is not None:
            raise report

    tickets = [ticket(f"x{i}", "shared", ident=f"t{i}") for i in range(len(codes))]
    replies = await Accusing(Submit(codes), note).submit(tickets, 1.0)
    await asyncio.sleep(0)
    assert [getattr(reply, "code", "") for reply in replies] == list(codes), "the answer is the engine's"
    return asked


@pytest.mark.parametrize("code", ["blob_rotten", "blob_lost"])
def test_every_package_of_an_accused_row_is_looked_into_once(code):
    asked = asyncio.run(asked_of(["", code, code, "overloaded"]))
    assert sorted(asked) == sorted({ref(name).digest for name in ("x1", "x2", "shared")})


def test_other_refusals_accuse_nobody():
    assert asyncio.run(asked_of(["", "adapter_load_failed", "not_ready", "storage_unavailable"])) == []


class Reports:
    """Looks into digests: `states` in order, the last one again and again; an exception is raised."""

    def __init__(self, *states):
        self.states, self.asked, self.go = list(states), [], asyncio.Event()
        self.go.set()

    async def __call__(self, digest):
        self.asked.append(digest)
        await self.go.wait()
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state


def said(*bad):
    return {f"e{i}": Holding(f"e{i}", frozenset(), bad=frozenset(digests)) for i, digests in enumerate(bad)}


async def heard(accusing, *tellings):
    for telling in tellings:
        accusing.hear(said(*telling))
        for _ in range(3):
            await asyncio.sleep(0)


def test_what_engines_could_not_pin_is_looked_into_once_however_long_they_tell_it():
    async def main():
        reports = Reports("rotten")
        accusing = Accusing(Submit(()), reports)
        await heard(accusing, [], [{"x"}, {"x", "y"}], [{"x"}, {"y"}], [{"x"}])
        assert reports.asked == ["x", "y"]
        await heard(accusing, [], [{"x"}])
        assert reports.asked == ["x", "y", "x"], "it was fine in between: published again, and rotten again"

    asyncio.run(main())


@pytest.mark.parametrize("state", ["sound", NotReady("the store is away")])
def test_what_was_not_settled_is_looked_into_again_while_it_is_told(state):
    async def main():
        reports = Reports(state, "lost")
        await heard(Accusing(Submit(()), reports), [{"x"}], [{"x"}], [{"x"}])
        assert reports.asked == ["x", "x"]

    asyncio.run(main())


def test_one_look_at_a_time_where_the_store_takes_long():
    async def main():
        reports = Reports("rotten")
        reports.go.clear()
        accusing = Accusing(Submit(()), reports)
        await heard(accusing, *[[{"x"}]] * 5)
        assert reports.asked == ["x"]
        reports.go.set()
        await heard(accusing, [{"x"}])
        assert reports.asked == ["x"]

    asyncio.run(main())


@pytest.mark.parametrize("error", [NotReady("the registry is away"), ValueError("bug")])
def test_a_store_that_is_away_changes_no_answer(error):
    assert asyncio.run(asked_of(["blob_rotten"], error))
