"""`/v1/tenants`: an administrator names tenants and says what each may use.

A tenant that was never put works all the same, without limits. Gateways and engines follow a change within a second.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field, StrictFloat, StrictInt
from starlette.responses import Response

from serving.api.administration_answers import TenantAnswer, TenantListAnswer, tenant_answer
from serving.api.auth import require
from serving.api.packages import package_router
from serving.api.services import Services
from serving.api.strict import Strict
from serving.errors import NotFound
from serving.registry.records import Quota
from serving.tenancy.keys import Caller

Administrator = Annotated[Caller, Depends(require("admin"))]
Overseer = Annotated[Caller, Depends(require("admin", "operate"))]


class QuotaBody(Strict):
    """What a tenant may use; what is left out or null has no limit. A cost unit is one token through one layer."""

    weight: StrictFloat = Field(default=1.0, description="share of a busy engine, against the other tenants' weights")
    requests_per_s: StrictFloat | None = Field(default=None, examples=[50.0])
    cost_per_s: StrictFloat | None = Field(default=None, examples=[200000.0])
    concurrency: StrictInt | None = Field(default=None, description="requests at once", examples=[64])
    adapters: StrictInt | None = Field(default=None, description="names of packages and targets", examples=[1000])
    nbytes: StrictInt | None = Field(default=None, description="bytes of distinct published packages")
    device_floor: StrictInt = Field(default=0, description="bytes on every engine that the others can not take")
    device_ceiling: StrictInt | None = Field(default=None, description="bytes on every engine at most")


def routes(services: Services) -> APIRouter:
    """The routes of tenants."""
    router = package_router("tenants")
    tenants = services.tenants

    @router.get("/v1/tenants", operation_id="list_tenants", summary="The tenants that were named")
    async def list_tenants(caller: Administrator) -> TenantListAnswer:
        """The tenants that were named, with their quotas."""
        return {"items": [tenant_answer(tenant) for tenant in await asyncio.to_thread(tenants.all)]}

    @router.put("/v1/tenants/{name}", operation_id="put_tenant", summary="Name a tenant, or replace its quota")
    async def put_tenant(name: str, body: QuotaBody, response: Response, caller: Administrator) -> TenantAnswer:
        """Name a tenant, or replace its whole quota; what the body leaves out has no limit any more."""
        tenant = await asyncio.to_thread(tenants.put, caller, name, Quota(**body.model_dump()))
        response.headers["location"] = f"/v1/tenants/{tenant.name}"
        return tenant_answer(tenant)

    @router.get("/v1/tenants/{name}", operation_id="show_tenant", summary="One tenant and its quota")
    async def show_tenant(name: str, caller: Overseer) -> TenantAnswer:
        """A tenant's quota; an operator sees the own tenant's, and every other one is as absent as an unknown one."""
        if "admin" not in caller.scopes and name != caller.tenant:
            raise NotFound(f"no tenant {name!r}", code="tenant_not_found")
        return tenant_answer(await asyncio.to_thread(tenants.get, name))

    @router.delete("/v1/tenants/{name}", status_code=204, operation_id="delete_tenant", summary="Forget a tenant")
    async def delete_tenant(name: str, caller: Administrator) -> None:
        """Forget a tenant; 409 while it has published names or live keys."""
        await asyncio.to_thread(tenants.delete, caller, name)

    return router
