"""`GET /v1/residency`: what the engine replicas hold of the caller's tenant, and how full they are.

Budgets, bytes used, counters (loads among them) and the queue are those of the whole replica, with all of its tenants:
the scope `operate` shows how busy the service is, and never with whose packages. Entries and names are the caller's alone.
"""

from collections.abc import Mapping, Sequence

from fastapi import APIRouter

from serving.api import answers
from serving.api.packages import Operator, package_router
from serving.api.services import Services
from serving.request import ReplicaReport, ResidencyEntry

References = Mapping[str, Sequence[str]]  # digest -> "name@version"


def routes(services: Services) -> APIRouter:
    """The routes of residency."""
    router = package_router("residency")

    @router.get("/v1/residency", operation_id="residency", summary="What lies in which tier of which replica")
    async def residency(caller: Operator) -> answers.ResidencyAnswer:
        """Per replica, of all tenants: budgets, bytes used, counters, queue; and the tenant's own packages by tier."""
        names = _references(services, caller.tenant)
        reports = sorted(await services.fleet.reports(), key=lambda report: report.replica)
        return {"replicas": [_replica(report, caller.tenant, names) for report in reports]}

    return router


def _references(services: Services, tenant: str) -> References:
    found: dict[str, list[str]] = {}
    for space in ("adapter", "embedding"):
        for record in services.directory.names(tenant, space):
            for version in record.versions:
                found.setdefault(version.ref.digest, []).append(f"{record.name}@{version.ref.version}")
    return found


def _replica(report: ReplicaReport, tenant: str, names: References) -> answers.ReplicaAnswer:
    mine = [entry for entry in report.entries if entry.tenant == tenant]
    return {
        "replica": report.replica,
        "ready": report.ready,
        "budgets": dict(report.budgets),
        "used": dict(report.used),
        "counters": dict(report.counters),
        "queued": report.queued,
        "running": report.running,
        "faults": len(report.faults),  # their texts may name another tenant's packages
        "entries": [_entry(entry, names) for entry in mine],
    }


def _entry(entry: ResidencyEntry, names: References) -> answers.EntryAnswer:
    return {
        "references": list(names.get(entry.digest, ())),
        "digest": entry.digest,
        "tier": entry.tier,
        "bytes": entry.nbytes,
        "leases": entry.leases,
        "pinned": entry.pinned,
        "hits": entry.hits,
        "loads": entry.loads,
    }
