"""What tenants owe for adapters that were moved for them, until a row that uses them runs.

Were a load paid when it ends, a dear one would push its tenant's turn past the time for which what was loaded is kept:
it would be evicted unused, loaded and charged again, and so on without end. So the first row that uses it pays.
"""

from collections.abc import Mapping

from adapters.refs import AdapterRef
from serving.scheduler.waiting import Waiting

DEFERRED = 64  # loads of one tenant that may wait for their row; beyond that the oldest is paid at once


class Debts:
    """Costs (layers x tokens) by tenant and reference. Books only, not thread-safe: the queue says when they are paid."""

    def __init__(self) -> None:
        self._owed: dict[str, dict[AdapterRef, float]] = {}

    @property
    def tenants(self) -> frozenset[str]:
        """Those who owe."""
        return frozenset(self._owed)

    def owe(self, tenant: str, costs: Mapping[AdapterRef, float]) -> float:
        """Note loads; what came a second time before any row used it is owed once. Returns what to pay at once."""
        owed = self._owed.setdefault(tenant, {})
        for ref, cost in costs.items():
            owed.pop(ref, None)  # to the end
            owed[ref] = cost
        paid = sum(owed.pop(ref) for ref in tuple(owed)[:-DEFERRED])
        if not owed:
            del self._owed[tenant]
        return paid

    def settle(self, row: Waiting) -> dict[AdapterRef, float]:
        """Take off the books what the tenant of a row owes for the row's own adapters."""
        owed = self._owed.get(row.ticket.tenant)
        if owed is None:
            return {}
        settled = {ref: owed.pop(ref) for ref in dict.fromkeys(row.refs) if ref in owed}
        if not owed:
            del self._owed[row.ticket.tenant]
        return settled

    def close(self, tenant: str) -> float:
        """A tenant waits for nothing more: take all that it owes off the books."""
        return sum(self._owed.pop(tenant, {}).values())
