"""`GET /v1/audit`: who changed what, from what to what, newest first."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from serving.api.administration_answers import AuditAnswer, audited_answer
from serving.api.auth import require
from serving.api.packages import package_router
from serving.api.services import Services
from serving.api.strict import Strict
from serving.errors import Forbidden
from serving.tenancy.keys import Caller

EVERYBODY = "*"
Auditor = Annotated[Caller, Depends(require("admin", "operate"))]


class AuditQuery(Strict):
    """Which rows."""

    tenant: str | None = Field(default=None, max_length=64, description="`*` is everybody; else one's own by default")
    space: str | None = Field(default=None, max_length=16, examples=["adapter", "embedding", "key", "tenant"])
    name: str | None = Field(default=None, max_length=128)
    action: str | None = Field(default=None, max_length=32, examples=["publish", "alias", "delete"])
    after: int = Field(default=0, ge=0, lt=1 << 63, description="`next` of the page before")
    limit: int = Field(default=100, ge=1, le=1000)


def routes(services: Services) -> APIRouter:
    """The route of the audit."""
    router = package_router("audit")

    @router.get("/v1/audit", operation_id="audit", summary="Who changed what, newest first")
    async def audit(query: Annotated[AuditQuery, Query()], caller: Auditor) -> AuditAnswer:
        """The audit of the own tenant; with the scope `admin` of any tenant, or of everybody."""
        wanted = query.tenant or (caller.tenant if "operate" in caller.scopes else EVERYBODY)
        if wanted != caller.tenant and "admin" not in caller.scopes:
            raise Forbidden("another tenant's audit needs a key with the scope admin")
        rows = await asyncio.to_thread(
            services.trail.audit,
            None if wanted == EVERYBODY else wanted,
            after=query.after,
            limit=query.limit,
            space=query.space,
            name=query.name,
            action=query.action,
        )
        items = [audited_answer(row) for row in rows]
        return {"items": items, "next": rows[-1].sequence if len(rows) == query.limit else None}

    return router
