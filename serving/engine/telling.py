"""What an engine says of its cache, as plain values: every package it holds, and the numbers that are scraped."""

from collections import Counter
from collections.abc import Iterable, Mapping

from adapters.cache.ledger import Held
from adapters.cache.tiered import Lease, TieredCache
from adapters.weights import Resident
from serving.readings import CacheCounts
from serving.request import ResidencyEntry


def entries_of(held: Iterable[Held]) -> tuple[ResidencyEntry, ...]:
    """Every package of a cache, by the highest tier that holds it."""
    return tuple(
        ResidencyEntry(
            one.ref.tenant, one.ref.digest, one.tier, one.nbytes, one.leases, one.pinned, one.hits, one.loads
        )
        for one in held
    )


def methods_of(lease: Lease) -> set[str]:
    """The adapter methods that take part in a row."""
    return set[str]().union(*(one.adapter.methods for one in lease.resident.values() if isinstance(one, Resident)))


def counts_of(cache: TieredCache, pins_refused: int) -> CacheCounts:
    """The numbers of a cache, by tier."""
    counters, held = cache.counters(), cache.residency()
    pinned = [one for one in held if one.pinned]
    return CacheCounts(
        evictions=counters.evictions,
        loaded_bytes=counters.bytes_loaded,
        resident_bytes=cache.used,
        load_failures=counters.load_failures,
        load_seconds=counters.load_seconds,
        found=counters.found,
        tier_loads=counters.tier_loads,
        budget_bytes=cache.budgets,
        entries=_by_tier((one.tier, 1) for one in held),
        pins=_by_tier((one.tier, 1) for one in pinned),
        pinned_bytes=_by_tier((one.tier, one.nbytes) for one in pinned),
        leases=_by_tier((one.tier, one.leases) for one in held),
        bad_copies=counters.bad_copies,
        pins_refused=pins_refused,
    )


def _by_tier(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    sums = Counter({"disk": 0, "host": 0, "device": 0})
    for tier, count in pairs:
        sums[tier] += count
    return dict(sums)
