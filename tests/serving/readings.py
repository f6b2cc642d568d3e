"""What the tests of the metrics read, and read from."""

from prometheus_client.parser import text_string_to_metric_families

from serving.readings import TIERS, CacheCounts, Seen


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """(name, sorted labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counts(hits: int = 3, **others) -> CacheCounts:
    """A cache in which every metric has a sample."""
    by_tier = dict.fromkeys(TIERS, 0)
    given = {
        "evictions": by_tier,
        "loaded_bytes": by_tier | {"host": 4096},
        "resident_bytes": by_tier | {"device": 1024},
        "found": by_tier | {"device": hits, "source": 2},
        "tier_loads": by_tier | {"device": 2},
        "load_failures": 1,
        "load_seconds": by_tier | {"host": 0.5},
        "budget_bytes": by_tier | {"device": 2048},
        "entries": by_tier,
        "pins": by_tier,
        "pinned_bytes": by_tier,
        "leases": by_tier,
        "bad_copies": 0,
        "pins_refused": 0,
    }
    return CacheCounts(**given | others)


def seen() -> Seen:
    """A gateway with two engines, one of them not warm yet."""
    return Seen(warm_engines=1, cold_engines=1, gateways=2, registry_age_s=0.25, registry_revision=7, quarantined=3)
