"""From what engines say twice to what they do in a second: the numbers of `chorus top`."""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.api.residency_answers import ReplicaAnswer, ResidencyAnswer

TIERS = ("device", "host", "disk")


@dataclass(frozen=True)
class Tier:
    """One tier of one replica: bytes, its own hits among its uses, and evictions in a second; None: not known."""

    used: int
    budget: int | None
    hit_ratio: float | None
    evictions_per_s: float | None


@dataclass(frozen=True)
class Load:
    """One replica now. `uses_per_s` counts packages that rows asked for; `busy` is the share of its rate that waits."""

    replica: str
    state: str
    queued: int
    running: int
    queued_cost: float
    cost_per_s: float
    wait_s: float | None  # what waits, at the measured rate
    uses_per_s: float | None
    hit_ratio: float | None
    loads_per_s: float | None
    tiers: Mapping[str, Tier]
    waiting: Mapping[str, float]  # by tenant


class Meter:
    """Remembers the sample before."""

    def __init__(self) -> None:
        self._before: dict[str, ReplicaAnswer] = {}
        self._at = 0.0

    def read(self, sample: ResidencyAnswer, at: float) -> tuple[Load, ...]:
        """The load of every replica; `at` are seconds. The first sample has totals and no rates."""
        elapsed = at - self._at
        found = tuple(_load(item, self._before.get(item["replica"]), elapsed) for item in sample["replicas"])
        self._before, self._at = {item["replica"]: item for item in sample["replicas"]}, at
        return found


def _load(now: ReplicaAnswer, before: ReplicaAnswer | None, elapsed: float) -> Load:
    counts = _Counts(now["counters"], None if before is None else before["counters"], elapsed)
    rate = now["cost_per_s"]
    return Load(
        replica=now["replica"],
        state="ready" if now["ready"] and now["warm"] else "warming" if now["ready"] else "down",
        queued=now["queued"],
        running=now["running"],
        queued_cost=now["queued_cost"],
        cost_per_s=rate,
        wait_s=now["queued_cost"] / rate if rate > 0 else None,
        uses_per_s=counts.per_s("hits", "misses"),
        hit_ratio=counts.share("hits", "misses"),
        loads_per_s=counts.per_s("loads"),
        tiers={tier: _tier(tier, now, counts) for tier in TIERS if tier in now["used"] or tier in now["budgets"]},
        waiting=dict(now["waiting"]),
    )


def _tier(tier: str, now: ReplicaAnswer, counts: "_Counts") -> Tier:
    return Tier(
        used=now["used"].get(tier, 0),
        budget=now["budgets"].get(tier),
        hit_ratio=counts.share(f"hits_{tier}", f"misses_{tier}"),
        evictions_per_s=counts.per_s(f"evictions_{tier}"),
    )


@dataclass(frozen=True)
class _Counts:
    """Totals now and before; a replica that counts anew (fewer than before) has no rate for one sample."""

    now: Mapping[str, int]
    before: Mapping[str, int] | None
    elapsed: float

    def per_s(self, *names: str) -> float | None:
        """How many in a second, of all of these together."""
        grown = [self._grown(name) for name in names]
        known = [count for count in grown if count is not None]
        return None if len(known) < len(names) or self.elapsed <= 0 else sum(known) / self.elapsed

    def share(self, hits: str, misses: str) -> float | None:
        """Hits among hits and misses: since the sample before, or in all where there is none."""
        if hits not in self.now or misses not in self.now:
            return None
        good, bad = self._grown(hits), self._grown(misses)
        if good is None or bad is None:
            good, bad = self.now[hits], self.now[misses]
        return good / (good + bad) if good + bad else None

    def _grown(self, name: str) -> int | None:
        if self.before is None or name not in self.now or name not in self.before:
            return None
        grown = self.now[name] - self.before[name]
        return grown if grown >= 0 else None
