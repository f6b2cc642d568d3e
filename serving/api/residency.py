"""`GET /v1/residency`: what the engine replicas hold of the caller's tenant, and how full they are.

Budgets, bytes used, counters (loads among them) and the queue are those of the whole replica, with all of its tenants:
the scope `operate` shows how busy the service is, and never with whose packages. Entries and names are the caller's own
and the public ones; who else waits is told to the scope `admin` alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter

from serving.api.packages import Operator, package_router
from serving.api.residency_answers import EntryAnswer, ReplicaAnswer, ResidencyAnswer
from serving.api.residents import SPACES
from serving.api.services import Services
from serving.registry.records import PUBLIC
from serving.request import Holding, ReplicaReport, ResidencyEntry
from serving.tenancy.keys import Caller

References = Mapping[tuple[str, str], Sequence[str]]  # (tenant, digest) -> "name@version"


def routes(services: Services) -> APIRouter:
    """The routes of residency."""
    router = package_router("residency")

    @router.get("/v1/residency", operation_id="residency", summary="What lies in which tier of which replica")
    async def residency(caller: Operator) -> ResidencyAnswer:
        """Per replica, of all tenants: budgets, bytes used, counters, queue; and the tenant's own packages by tier."""
        view = _View(caller, _references(services, caller.tenant), services.fleet.holdings())
        reports = sorted(await services.fleet.reports(), key=lambda report: report.replica)
        return {"replicas": [view.replica(report) for report in reports]}

    return router


@dataclass(frozen=True)
class _View:
    """What one caller may see of the engines."""

    caller: Caller
    names: References
    holdings: Mapping[str, Holding]

    def replica(self, report: ReplicaReport) -> ReplicaAnswer:
        holding = self.holdings.get(report.replica, Holding(report.replica, frozenset(), warm=False))
        return {
            "replica": report.replica,
            "ready": report.ready,
            "warm": holding.warm,
            "budgets": dict(report.budgets),
            "used": dict(report.used),
            "counters": dict(report.counters),
            "queued": report.queued,
            "running": report.running,
            "queued_cost": holding.queued_cost,
            "cost_per_s": holding.cost_per_s,
            "waiting": {tenant: cost for tenant, cost in holding.lines if self._may_see(tenant)},
            "faults": len(report.faults),  # their texts may name another tenant's packages
            "pins_refused": dict(self._refused(report)),
            "entries": [self._entry(entry) for entry in report.entries if entry.tenant in (self.caller.tenant, PUBLIC)],
        }

    def _refused(self, report: ReplicaReport) -> Iterator[tuple[str, str]]:
        """The caller's pins that could not be brought about, by `name@version`, each with the reason."""
        for version, why in sorted(report.pins_refused.items()):
            tenant, _, reference = version.partition(":")
            if tenant in (self.caller.tenant, PUBLIC):
                yield reference, why

    def _may_see(self, tenant: str) -> bool:
        return tenant == self.caller.tenant or "admin" in self.caller.scopes

    def _entry(self, entry: ResidencyEntry) -> EntryAnswer:
        return {
            "references": list(self.names.get((entry.tenant, entry.digest), ())),
            "digest": entry.digest,
            "tier": entry.tier,
            "bytes": entry.nbytes,
            "leases": entry.leases,
            "pinned": entry.pinned,
            "hits": entry.hits,
            "loads": entry.loads,
        }


def _references(services: Services, tenant: str) -> References:
    found: dict[tuple[str, str], list[str]] = {}
    for owner in dict.fromkeys((tenant, PUBLIC)):
        for space in SPACES:
            for record in services.directory.names(owner, space):
                for version in record.versions:
                    found.setdefault(version.ref.key, []).append(f"{record.name}@{version.ref.version}")
    return found
