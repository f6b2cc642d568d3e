"""The client's view of keys, tenants and the audit."""

from collections.abc import Sequence
from dataclasses import asdict
from urllib.parse import quote

from serving.api import answers
from serving.api.administration_answers import AuditAnswer, TenantAnswer, TenantListAnswer
from serving.calls import Calls
from serving.registry.records import Quota


class Keys:
    """The keys of a tenant: the caller's own, or with the scope `admin` the one that is named."""

    def __init__(self, calls: Calls, tenant: str | None = None) -> None:
        self._calls = calls
        self._query = {} if tenant is None else {"tenant": tenant}

    def of(self, tenant: str | None) -> "Keys":
        """The keys of a tenant; None is the caller's own."""
        return Keys(self._calls, tenant)

    def create(
        self, scopes: Sequence[str], label: str = "", *, expires_in_s: float | None = None
    ) -> answers.NewKeyAnswer:
        """Make a key; the secret is in the answer and nowhere else."""
        body = {"scopes": list(scopes), "label": label, "expires_in_s": expires_in_s}
        answer: answers.NewKeyAnswer = self._calls.json("POST", "/v1/keys", body=body, params=self._query)
        return answer

    def list(self) -> list[answers.KeyAnswer]:
        """Every key, revoked ones too."""
        answer: answers.KeyListAnswer = self._calls.json("GET", "/v1/keys", params=self._query)
        return answer["items"]

    def rotate(self, key_id: str, grace_s: float) -> answers.NewKeyAnswer:
        """Make a key in another one's place, which is good for `grace_s` more seconds."""
        place = f"/v1/keys/{quote(key_id, safe='')}:rotate"
        answer: answers.NewKeyAnswer = self._calls.json("POST", place, body={"grace_s": grace_s}, params=self._query)
        return answer

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        self._calls.json("DELETE", f"/v1/keys/{quote(key_id, safe='')}", params=self._query)


class Tenants:
    """The tenants that were named, and what each may use."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def put(self, name: str, quota: Quota) -> TenantAnswer:
        """Name a tenant, or replace its whole quota."""
        answer: TenantAnswer = self._calls.json("PUT", _tenant(name), body=asdict(quota), idempotent=True)
        return answer

    def show(self, name: str) -> TenantAnswer:
        """One tenant."""
        answer: TenantAnswer = self._calls.json("GET", _tenant(name))
        return answer

    def list(self) -> list[TenantAnswer]:
        """Every tenant, by name."""
        answer: TenantListAnswer = self._calls.json("GET", "/v1/tenants")
        return answer["items"]

    def delete(self, name: str) -> None:
        """Forget a tenant, which must have nothing."""
        self._calls.json("DELETE", _tenant(name))


class Audit:
    """Who changed what."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def page(
        self,
        *,
        tenant: str | None = None,
        space: str | None = None,
        name: str | None = None,
        action: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> AuditAnswer:
        """Rows newest first, older than `after` where it is not 0; `next` goes on."""
        wanted = {"tenant": tenant, "space": space, "name": name, "action": action, "after": after, "limit": limit}
        query = {key: str(value) for key, value in wanted.items() if value is not None}
        answer: AuditAnswer = self._calls.json("GET", "/v1/audit", params=query)
        return answer


def _tenant(name: str) -> str:
    return f"/v1/tenants/{quote(name, safe='')}"
