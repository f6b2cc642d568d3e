"""Honest small fakes of tenants and of the audit, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.errors import NotFound
from serving.registry.records import AuditEntry, Quota, Tenant
from serving.tenancy.keys import Caller
from tests.serving.fake_registry import NOW, FakeControl


@dataclass
class FakeTenants:
    """Tenants by name; `by` remembers who wrote."""

    held: dict[str, Tenant] = field(default_factory=dict)
    by: list[str] = field(default_factory=list)

    def put(self, actor: Caller, name: str, quota: Quota) -> Tenant:
        self.by.append(actor.key_id)
        self.held[name] = Tenant(name, quota, NOW, len(self.by))
        return self.held[name]

    def get(self, name: str) -> Tenant:
        if name not in self.held:
            raise NotFound(f"no tenant {name!r}", code="tenant_not_found")
        return self.held[name]

    def all(self) -> Sequence[Tenant]:
        return [self.held[name] for name in sorted(self.held)]

    def delete(self, actor: Caller, name: str) -> None:
        self.get(name)
        self.by.append(actor.key_id)
        del self.held[name]


@dataclass
class FakeTrail:
    """The audit of `FakeControl`, in pages."""

    control: FakeControl

    def audit(
        self,
        tenant: str | None,
        *,
        after: int,
        limit: int,
        space: str | None = None,
        name: str | None = None,
        action: str | None = None,
    ) -> Sequence[AuditEntry]:
        wanted = {"tenant": tenant, "space": space, "name": name, "action": action}
        found = [
            entry
            for entry in reversed(self.control.audit)
            if (after == 0 or entry.sequence < after)
            and all(value is None or getattr(entry, field) == value for field, value in wanted.items())
        ]
        return found[:limit]
