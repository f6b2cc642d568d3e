"""Whose load is next: tenants take turns by the bytes that were moved for them, as rows do by their cost.

The loader is one thread, so its line is a queue of its own. Start-time fair queueing (Goyal, Vin, Cheng 1996): a counter
per tenant grows by bytes / weight, the least goes first, and whoever comes after a pause starts at the clock.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol, TypeVar

UNKNOWN = 1 << 20  # bytes that a load is taken for before its size is known


class Waits(Protocol):
    """Something to load; `tenants` wait for it, whoever asked first before the others."""

    @property
    def tenants(self) -> Collection[str]:
        """On whose behalf."""
        ...


W = TypeVar("W", bound=Waits)


class Turns:
    """Counters of tenants. Not locked: its owner is `TieredCache`, which is."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._paid: dict[str, float] = {}
        self._now = 0.0

    def share(self, weights: Mapping[str, float]) -> None:
        """Take turns by these weights from now on; a tenant that is not named has 1."""
        self._weights = dict(weights)

    def order(self, waiting: Iterable[W], size: Callable[[W], int | None]) -> list[W]:
        """All of them, each tenant's own in the order given, the tenants by turns. What several ask for comes once."""
        lines: dict[str, list[W]] = {}
        for want in waiting:
            for tenant in want.tenants:
                lines.setdefault(tenant, []).append(want)
        heap = [(self._of(tenant), place, tenant) for place, tenant in enumerate(lines)]
        heapq.heapify(heap)
        ordered: dict[int, W] = {}
        at = dict.fromkeys(lines, 0)
        while heap:
            paid, place, tenant = heapq.heappop(heap)
            want = lines[tenant][at[tenant]]
            at[tenant] += 1
            if id(want) not in ordered:
                ordered[id(want)] = want
                paid += (size(want) or UNKNOWN) / self._weight(tenant)
            if at[tenant] < len(lines[tenant]):
                heapq.heappush(heap, (paid, place, tenant))
        return list(ordered.values())

    def moved(self, tenants: Collection[str], nbytes: int, waiting: Collection[str]) -> None:
        """So many bytes were moved for these; whoever of them was least served pays. `waiting` are all who have wants."""
        payer = min(tenants, key=self._of)
        started = self._of(payer)
        self._now = max(self._now, started)
        self._paid[payer] = started + nbytes / self._weight(payer)
        self._paid = {tenant: paid for tenant, paid in self._paid.items() if tenant in waiting or paid > self._now}

    def lift(self, tenant: str) -> None:
        """A tenant that nothing could be loaded for has saved nothing up: it starts at the clock."""
        self._paid[tenant] = max(self._of(tenant), self._now)

    def _of(self, tenant: str) -> float:
        return self._paid.get(tenant, self._now)

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)
