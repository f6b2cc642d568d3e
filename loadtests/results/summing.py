"""From samples to sums: counts, rates, percentiles of waits, and where packages were found."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from loadtests.client.plan import RIGHT, Sample
from loadtests.results.record import SHARES, Sums, Waits
from loadtests.served.counters import TIERS

DETAILS = 8  # kinds of faults that are told
CURVE = (0.0, *(1 - 10 ** -(step / 8) for step in range(1, 41)))  # ever nearer to 1, as percentiles are drawn


def waits_of(samples: Sequence[Sample], *, curve: bool = False) -> Waits:
    """Of the right answers among the samples; percentiles are linear between ranks."""
    values = np.array([1e3 * sample.seconds for sample in samples if sample.verdict == RIGHT])
    if not len(values):
        return Waits(0, None, None, None, None, None, None, None)
    p50, p75, p90, p95, p99 = map(float, np.quantile(values, SHARES))
    shares = [share for share in CURVE if share <= 1 - 1 / len(values)] if curve else []
    drawn = (
        tuple((float(share), float(wait)) for share, wait in zip(shares, np.quantile(values, shares), strict=True))
        if shares
        else ()
    )
    return Waits(len(values), float(values.mean()), p50, p75, p90, p95, p99, float(values.max()), drawn)


def sums_of(samples: Sequence[Sample], start: float, end: float, *, curve: bool = False) -> Sums:
    """Of the requests that were due from `start` to `end`; answers count by when they came, whenever they were asked for."""
    due = [sample for sample in samples if start <= sample.intended < end]
    came = [sample for sample in samples if sample.verdict == RIGHT and start <= sample.done < end]
    right = [sample for sample in due if sample.verdict == RIGHT]
    seconds = end - start
    return Sums(
        seconds=seconds,
        requests=len(due),
        verdicts=dict(Counter(sample.verdict for sample in due)),
        details=dict(Counter(sample.detail for sample in due if sample.verdict != RIGHT).most_common(DETAILS)),
        offered_per_s=len(due) / seconds,
        right_per_s=len(came) / seconds,
        rows_per_s=sum(sample.rows for sample in came) / seconds,
        tokens_per_s=sum(sample.tokens for sample in came) / seconds,
        waits=waits_of(due, curve=curve),
        found=found(right),
        adapters=len({(sample.tenant, sample.adapter) for sample in due}),
    )


def found(right: Sequence[Sample]) -> dict[str, float]:
    """The share of answers by the slowest tier that held one of their packages; empty without answers."""
    if not right:
        return {}
    tiers = Counter(max(sample.tiers, key=TIERS.index) for sample in right if sample.tiers)
    return {tier: tiers[tier] / len(right) for tier in TIERS}


def by_tenant(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """The samples of each tenant."""
    apart: dict[str, list[Sample]] = {}
    for sample in samples:
        apart.setdefault(sample.tenant, []).append(sample)
    return apart
