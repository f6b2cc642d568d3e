"""What an engine says of its cache is what its cache holds."""

import pytest

from serving.engine.telling import counts_of, entries_of, methods_of
from tests.adapters import builders
from tests.serving.engine.bench import Bench, package


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.engine.close()


def test_counts_are_told_by_tier(bench):
    one, two = bench.publish("one", package(1)), bench.publish("two", package(2), tenant="b")
    words = bench.publish("words", builders.embedding_package("bert"))
    for ref in (one, two, words):
        bench.engine.preload(ref)
    bench.engine.pin(one)
    cache = bench.engine._cache
    with cache.try_acquire((one, words)), cache.try_acquire((one,)):
        counts = counts_of(cache, pins_refused=3)
    assert counts.entries == {"device": 2, "host": 1, "disk": 0}
    assert counts.pins == {"device": 1, "host": 0, "disk": 0}
    assert counts.pinned_bytes["device"] * 2 == counts.resident_bytes["device"]
    assert counts.leases == {"device": 2, "host": 1, "disk": 0}
    assert counts.found["source"] == 3 and counts.found["device"] == 3 and counts.found["host"] == 1
    assert counts.tier_loads == {"device": 2, "host": 3, "disk": 3}
    assert counts.budget_bytes == cache.budgets
    assert (counts.pins_refused, counts.bad_copies) == (3, 0)


def test_entries_tell_who_holds_what(bench):
    ref = bench.publish("x", package(1))
    bench.engine.preload(ref)
    (entry,) = entries_of(bench.engine._cache.residency())
    assert (entry.tenant, entry.digest, entry.tier, entry.loads, entry.pinned) == ("a", ref.digest, "device", 1, False)


def test_the_methods_of_a_row_are_those_of_all_that_it_leases(bench):
    refs = (bench.publish("p", package(1)), bench.publish("q", package(2, "lora_qv")))
    words = bench.publish("w", builders.embedding_package("bert"))
    for ref in (*refs, words):
        bench.engine.preload(ref)
    with bench.engine._cache.try_acquire((*refs, words)) as lease:
        assert methods_of(lease) == {"bottleneck", "lora"}
    with bench.engine._cache.try_acquire(()) as lease:
        assert methods_of(lease) == set()
