"""Probes and numbers: is the process alive, can it answer, and what has it counted."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import PlainTextResponse

from serving.api.auth import require
from serving.api.schemas import HealthAnswer
from serving.api.services import Services
from serving.errors import Fault, NotReady
from serving.merging import merge
from serving.metrics import render
from serving.tenancy.keys import Caller

PATIENCE_S = 2.0  # an engine that needs longer to say that it is ready, is not
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
ALL = frozenset({"admin", "metrics"})  # scopes that are told what is counted of every tenant
Scraper = Annotated[Caller, Depends(require("operate", *ALL))]


def routes(services: Services) -> APIRouter:
    """`/livez` and `/readyz` are open; `/metrics` needs the scope `metrics` or `admin`, or for one's own tenant `operate`."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", summary="Whether this process answers")
    async def livez() -> HealthAnswer:
        return HealthAnswer()

    @router.get("/readyz", summary="Whether predictions can be answered; 503 tells why not")
    async def readyz() -> HealthAnswer:
        reasons = await _reasons(services)
        if reasons:
            raise NotReady("; ".join(reasons), faults=tuple(Fault("", reason) for reason in reasons), retry_after=1.0)
        return HealthAnswer()

    @router.get(
        "/metrics",
        summary="Prometheus text of every process, each sample with its replica",
        response_class=PlainTextResponse,
    )
    async def metrics(caller: Scraper) -> PlainTextResponse:
        """Every sample of every process; with `operate` alone, those with a `tenant` are the caller's own."""
        whose = caller.tenant if ALL.isdisjoint(caller.scopes) else None
        others = await services.fleet.metrics()  # which counts who is silent: before our own are rendered
        texts = {services.replica: render(services.metrics.registry), **others}
        return PlainTextResponse(await asyncio.to_thread(merge, texts, whose), media_type=EXPOSITION)

    return router


async def _reasons(services: Services) -> list[str]:
    reasons = [] if services.directory.ready() else ["the registry has not been read yet"]
    try:
        async with asyncio.timeout(PATIENCE_S):
            answers = await services.fleet.ready()
    except TimeoutError:
        answers = False
    return reasons if answers else [*reasons, "no engine answers"]
