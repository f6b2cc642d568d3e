"""The answers about tenants and the audit, as typed JSON; a client imports them without a web framework."""

from dataclasses import asdict
from typing import cast

from typing_extensions import TypedDict

from serving.api.answers import EventAnswer, event_answer, timestamp
from serving.registry.records import AuditEntry, Tenant


class QuotaAnswer(TypedDict):
    """What a tenant may use; null is without a limit."""

    weight: float
    requests_per_s: float | None
    cost_per_s: float | None
    concurrency: int | None
    adapters: int | None
    nbytes: int | None
    device_floor: int
    device_ceiling: int | None


class TenantAnswer(TypedDict):
    """A tenant that was named."""

    name: str
    quota: QuotaAnswer
    created: str
    revision: int


class TenantListAnswer(TypedDict):
    """Every tenant that was named, by name."""

    items: list[TenantAnswer]


class AuditedAnswer(EventAnswer):
    """One row of the audit, and whose it is."""

    tenant: str


class AuditAnswer(TypedDict):
    """One page; `next` goes on with older rows."""

    items: list[AuditedAnswer]
    next: int | None


def tenant_answer(tenant: Tenant) -> TenantAnswer:
    """A tenant as JSON."""
    return {
        "name": tenant.name,
        "quota": cast("QuotaAnswer", asdict(tenant.quota)),
        "created": timestamp(tenant.created),
        "revision": tenant.revision,
    }


def audited_answer(entry: AuditEntry) -> AuditedAnswer:
    """An audit row as JSON, with whose it is."""
    return {**event_answer(entry), "tenant": entry.tenant}
