"""Numbers that are read when they are asked for."""

from prometheus_client import CollectorRegistry

from serving.metrics import render
from serving.readings import CacheReading, SeenReading, WatchReading
from tests.serving.readings import counts, samples, seen


def read(reading) -> dict:
    registry = CollectorRegistry()
    registry.register(reading)
    return samples(render(registry))


def by_tier(found: dict, name: str) -> dict:
    return {labels[0][1]: value for (sample, labels), value in found.items() if sample == name}


def test_a_miss_of_a_tier_is_what_a_lower_one_held_or_none():
    found = read(CacheReading(lambda: counts(found={"device": 10, "host": 4, "disk": 2, "source": 1})))
    assert by_tier(found, "chorus_cache_hits_total") == {"device": 10, "host": 4, "disk": 2}
    assert by_tier(found, "chorus_cache_misses_total") == {"device": 7, "host": 3, "disk": 1}


def test_what_the_tiers_hold_is_told_by_tier():
    held = {"device": 1, "host": 2, "disk": 3}
    found = read(
        CacheReading(
            lambda: counts(
                entries=held,
                pins={"device": 4},
                pinned_bytes={"device": 5},
                leases={"host": 6},
                evictions={"disk": 7},
                tier_loads={"host": 8},
                bad_copies=9,
                pins_refused=10,
            )
        )
    )
    assert by_tier(found, "chorus_resident_packages") == held
    assert by_tier(found, "chorus_pinned_packages") == {"device": 4}
    assert by_tier(found, "chorus_pinned_bytes") == {"device": 5}
    assert by_tier(found, "chorus_leases") == {"host": 6}
    assert by_tier(found, "chorus_cache_evictions_total") == {"disk": 7}
    assert by_tier(found, "chorus_cache_loads_total") == {"host": 8}
    assert by_tier(found, "chorus_budget_bytes")["device"] == 2048
    assert found["chorus_cache_bad_copies_total", ()] == 9
    assert found["chorus_pins_refused", ()] == 10


def test_the_cache_is_read_when_it_is_asked_and_not_before():
    reads = []
    registry = CollectorRegistry()
    registry.register(CacheReading(lambda: (reads.append(1), counts(hits=len(reads)))[1]))
    assert reads == []
    hits = ("chorus_cache_hits_total", (("tier", "device"),))
    assert samples(render(registry))[hits] == 1
    found = samples(render(registry))
    assert found[hits] == 2
    assert found["chorus_resident_bytes", (("tier", "device"),)] == 1024
    assert found["chorus_cache_loaded_bytes_total", (("tier", "host"),)] == 4096
    assert found["chorus_cache_load_seconds_total", (("tier", "host"),)] == 0.5
    assert found["chorus_cache_load_failures_total", ()] == 1


def test_what_a_gateway_sees_is_a_number_each():
    assert read(SeenReading(seen)) == {
        ("chorus_engines", (("state", "warm"),)): 1,
        ("chorus_engines", (("state", "cold"),)): 1,
        ("chorus_gateways", ()): 2,
        ("chorus_registry_age_seconds", ()): 0.25,
        ("chorus_registry_revision", ()): 7,
        ("chorus_quarantined_versions", ()): 3,
    }


def test_what_a_watching_process_counted_is_told_by_outcome():
    found = list(WatchReading(lambda: {"published": 3, "refused": 0}).collect())
    assert [(sample.name, sample.labels["outcome"], sample.value) for sample in found[0].samples] == [
        ("chorus_watch_files_total", "published", 3),
        ("chorus_watch_files_total", "refused", 0),
    ]
