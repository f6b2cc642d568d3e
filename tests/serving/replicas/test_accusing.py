"""Engines that find bytes wrong are heard."""

import asyncio

import numpy as np
import pytest

from serving.errors import NotReady
from serving.replicas.accusing import Accusing
from serving.request import Refusal, Result, Timing
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


@pytest.mark.parametrize("error", [NotReady("the registry is away"), ValueError("bug")])
def test_a_store_that_is_away_changes_no_answer(error):
    assert asyncio.run(asked_of(["blob_rotten"], error))
