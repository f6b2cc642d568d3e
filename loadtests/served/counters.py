"""What the service counts, read from its metrics before and after: what was found where, and what a batch was made of."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

TIERS = ("device", "host", "disk")
TIER_WORDS = dict(
    zip(TIERS, ("device", "host", "disk or store"), strict=True)
)  # the last is the engine's disk, or the blobs
Totals = Mapping[
    tuple[str, str], float
]  # (series, value of its only label that counts here) -> total over all replicas
_LABELS = {
    "chorus_cache_hits_total": "tier",
    "chorus_cache_misses_total": "tier",
    "chorus_cache_evictions_total": "tier",
    "chorus_cache_loads_total": "tier",
    "chorus_cache_loaded_bytes_total": "tier",
    "chorus_batches_total": "",
    "chorus_rows_total": "",
    "chorus_tokens_total": "",
    "chorus_batch_adapters_sum": "",
    "chorus_forward_seconds_sum": "",
    "chorus_queue_seconds_sum": "",
    "chorus_queue_seconds_count": "",
}


@dataclass(frozen=True)
class Counted:
    """What happened in the service while a step was measured; None where nothing was counted."""

    batches: float
    rows_per_batch: float | None
    tokens_per_batch: float | None
    distinct_per_batch: float | None  # adapters
    forward_ms: float | None  # of a batch
    queue_ms: float | None  # of a row
    hit_ratio: dict[str, float | None]  # by tier: of what was looked for there
    loads: dict[str, float]  # into the tier
    loaded_bytes: dict[str, float]
    evictions: dict[str, float]


def read_totals(text: str) -> Totals:
    """The totals of the series that are used here, over all processes."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (label := _LABELS.get(sample.name)) is not None:
                key = (sample.name, sample.labels.get(label, ""))
                found[key] = found.get(key, 0.0) + sample.value
    return found


def between(before: Totals, after: Totals) -> Counted:
    """What was counted from one reading to the next."""

    def grown(name: str, label: str = "") -> float:
        return max(0.0, after.get((name, label), 0.0) - before.get((name, label), 0.0))

    def each(name: str) -> dict[str, float]:
        return {tier: grown(name, tier) for tier in TIERS}

    batches = grown("chorus_batches_total")
    hits, misses = each("chorus_cache_hits_total"), each("chorus_cache_misses_total")
    return Counted(
        batches=batches,
        rows_per_batch=_over(grown("chorus_rows_total"), batches),
        tokens_per_batch=_over(grown("chorus_tokens_total"), batches),
        distinct_per_batch=_over(grown("chorus_batch_adapters_sum"), batches),
        forward_ms=_over(1e3 * grown("chorus_forward_seconds_sum"), batches),
        queue_ms=_over(1e3 * grown("chorus_queue_seconds_sum"), grown("chorus_queue_seconds_count")),
        hit_ratio={tier: _over(hits[tier], hits[tier] + misses[tier]) for tier in TIERS},
        loads=each("chorus_cache_loads_total"),
        loaded_bytes=each("chorus_cache_loaded_bytes_total"),
        evictions=each("chorus_cache_evictions_total"),
    )


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None
