"""`/v1/adapters`: adapters, heads and everything else that a composition may name."""

from typing import Annotated

from fastapi import APIRouter, Query

from serving.api import answers
from serving.api.package_routes import add_package_routes
from serving.api.packages import ListQuery, Reader, Surface, package_router
from serving.api.services import Services

ROOT = "/v1/adapters"


def routes(services: Services) -> APIRouter:
    """The routes of the namespace `adapter`."""
    router, surface = package_router("adapters"), Surface(services, "adapter", ROOT)

    @router.get(ROOT, operation_id="list_adapter", summary="The adapters of the tenant, or the public ones")
    async def list_adapters(query: Annotated[ListQuery, Query()], caller: Reader) -> answers.ListAnswer:
        """The tenant's adapters (or with `tenant=public` those that everyone may use), sorted by name."""
        page, following = surface.page(caller, query)
        return {"items": [answers.summary_answer(record) for record in page], "next": following}

    add_package_routes(router, surface)
    return router
