"""`GET /v1/limits`: what one request may ask for, and the backbone that packages must fit."""

from typing import cast

from fastapi import APIRouter, Depends

from serving.api.auth import require
from serving.api.schemas import LimitsAnswer, TaskName
from serving.api.services import Services
from serving.tasks.table import tasks_of
from serving.tenancy.keys import SCOPES


def routes(services: Services) -> APIRouter:
    """One route; any key may ask."""
    router = APIRouter(tags=["limits"])
    tasks = [cast("TaskName", name) for name in tasks_of(services.profile.geometry)]

    @router.get(
        "/v1/limits",
        summary="What one request may ask for",
        dependencies=[Depends(require(*SCOPES))],
    )
    async def limits() -> LimitsAnswer:
        return LimitsAnswer.of(services.limits, services.profile.to_json(), tasks)

    return router
