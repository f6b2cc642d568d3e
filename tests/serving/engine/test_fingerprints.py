"""Right adapter under churn: every answer tells which version gave it, and two faults that are planted are seen."""

import random

import numpy as np
import pytest

from adapters.cache.device import DeviceTier
from adapters.refs import AdapterRef
from serving.request import Result
from serving.scheduler.batcher import Budget
from tests.serving.engine.bench import Bench, package

SIZE = 8192  # bytes of `package(seed)` on the device


def churn(folder, rows=120, seed=1):
    """Two tenants, three names, two versions of each, room for five: (wrong answers, answers, breaches of the books)."""
    bench = Bench(folder, device_bytes=5 * SIZE, budget=Budget(4, 512, 3 * SIZE))
    chance = random.Random(seed)
    refs = []
    for i, (tenant, name) in enumerate((tenant, name) for tenant in "ab" for name in "xyz"):
        for version in (1, 2):
            made = bench.publish(name, package(2 * i + version), tenant=tenant)
            refs.append(AdapterRef(tenant, name, version, made.digest))
            bench.packages[refs[-1]] = bench.packages[made]
    ids = np.array([1, 7, 11, 3], np.int32)
    right = {ref: bench.alone(bench.ticket(ref, head=ref, input_ids=ids, tenant=ref.tenant)) for ref in refs}
    wrong = answers = 0
    breaches = set()
    try:
        for _ in range(rows // 4):
            asked = chance.sample(refs, 4)
            tickets = [bench.ticket(ref, head=ref, input_ids=ids, tenant=ref.tenant) for ref in asked]
            for ref in asked:
                bench.engine.preload(ref)
            bench.engine.submit(tickets, bench.groups.append)
            for _ in range(20):
                bench.engine._loop.turn()
                breaches.update(bench.engine.check())
                waiting = {row.ticket.refs[0] for row in bench.engine._loop._queue.upcoming(9)}
                for ref in waiting:
                    bench.engine.preload(ref)
            for ref, ticket in zip(asked, tickets, strict=True):
                reply = bench.replies.get(ticket.id)
                if isinstance(reply, Result):
                    answers += 1
                    wrong += not np.allclose(reply.output, right[ref], atol=1e-4)
    finally:
        bench.engine.close()
    return wrong, answers, breaches


def test_every_answer_is_that_of_the_version_that_was_asked_for(tmp_path):
    assert churn(tmp_path) == (0, 120, set())


def test_a_cache_keyed_by_name_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(AdapterRef, "key", property(lambda ref: (ref.tenant, ref.name)))
    wrong, answers, _ = churn(tmp_path)
    assert answers == 120
    assert wrong > 10


def test_a_slot_without_generation_is_caught(tmp_path, monkeypatch):
    remembered = {}
    reserve, publish = DeviceTier.reserve, DeviceTier.publish

    def reserve_as_before(tier, key, nbytes):
        reserve(tier, key, nbytes)
        if key in remembered:  # "it has been in that slot before, so it still is"
            tier._slots[key].resident = remembered[key]

    def remember(tier, key, resident):
        publish(tier, key, resident)
        remembered[key] = resident

    monkeypatch.setattr(DeviceTier, "reserve", reserve_as_before)
    monkeypatch.setattr(DeviceTier, "publish", remember)
    wrong, _, breaches = churn(tmp_path)
    assert wrong > 10
    assert any("another use of its slot" in breach for breach in breaches)


@pytest.mark.parametrize("seed", [2, 3])
def test_other_orders_are_right_as_well(tmp_path, seed):
    assert churn(tmp_path, seed=seed) == (0, 120, set())
