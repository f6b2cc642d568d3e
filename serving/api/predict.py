"""`POST /v1/predict`: names to digests, texts to tickets, tickets to replies, replies to one answer."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.api.auth import require
from serving.api.body import StrictRoute
from serving.api.outcome import PARALLEL, finished, residency, target, task_name, timing, word
from serving.api.rows import RowMaker
from serving.api.schemas import PredictAnswer, PredictRequest
from serving.api.selection import select
from serving.api.services import Services
from serving.api.wording import options_of
from serving.errors import DeadlineExceeded, Unprocessable
from serving.tasks.table import FEATURES
from serving.tenancy.keys import Caller

LONG = (FEATURES.name, PARALLEL)  # tasks whose answers may hold many numbers


def routes(services: Services) -> APIRouter:
    """The data plane."""
    router = APIRouter(route_class=StrictRoute, tags=["predict"])
    predictor = Predictor(services)

    @router.post("/v1/predict", response_model=PredictAnswer, summary="Answer inputs with the adapters they name")
    async def predict(
        request: Request, body: PredictRequest, caller: Annotated[Caller, Depends(require("predict"))]
    ) -> Response:
        answer = await _unless_gone(request, predictor.predict(body, caller.tenant))
        request_id = request.state.request_id
        answer["id"] = request_id if request_id.startswith("req_") else f"req_{request_id}"
        numbers = answer["task"] in LONG or body.parameters.function_to_apply == "none"  # many: not on the event loop
        content = await asyncio.to_thread(to_json, answer) if numbers else to_json(answer)
        spent = ", ".join(f"{name};dur={ms:.1f}" for name, ms in answer["timing_ms"].items())
        return Response(content, media_type="application/json", headers={"server-timing": spent})

    return router


class Predictor:
    """Answers one request at a time; holds the tokenizers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._rows = RowMaker(services)

    async def predict(self, request: PredictRequest, tenant: str) -> dict[str, Any]:
        """The answer without its id; raises `ServiceError`, `DeadlineExceeded` when the request's time is over."""
        begun = time.perf_counter()
        timeout_s = self._timeout(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer(request, tenant, begun, timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {timeout_s * 1000:.0f} ms") from error

    async def _answer(self, request: PredictRequest, tenant: str, begun: float, timeout_s: float) -> dict[str, Any]:
        services = self._services
        self._rows.inputs(request)  # the caps come before any look-up
        selection = await select(request, tenant, services.directory, services.profile.geometry)
        options = options_of(request.parameters, selection.tasks)
        rows = await self._rows.rows(request, selection, options)
        services.metrics.tokenize_seconds.observe(rows.seconds)
        left_s = timeout_s - (time.perf_counter() - begun)
        if left_s <= 0:
            raise TimeoutError
        tickets = rows.tickets(tenant, selection, options, left_s)
        services.metrics.rows.inc(len(tickets))
        services.metrics.tokens.inc(rows.tokens)
        results = finished(request, rows, tickets, await services.submit.submit(tickets, left_s))
        if FEATURES in selection.tasks or options.function == "none":  # long lists of numbers
            outputs = await asyncio.to_thread(word, selection, rows, results, options)
        else:
            outputs = word(selection, rows, results, options)
        return {
            "id": "",
            "task": task_name(selection),
            "target": target(selection, services.profile),
            "outputs": outputs,
            "usage": {"prompt_tokens": rows.tokens, "truncated": rows.truncated},
            "timing_ms": timing(rows, results, time.perf_counter() - begun),
            "residency": residency(selection, results),
            "replica": ",".join(sorted({result.replica for result in results})),
        }

    def _timeout(self, request: PredictRequest) -> float:
        limits = self._services.limits
        asked = request.timeout_ms or limits.default_timeout_ms
        if asked > limits.max_timeout_ms:
            detail = f"timeout_ms is at most {limits.max_timeout_ms}"
            raise Unprocessable(detail, code="invalid_value", pointer="/timeout_ms")
        return asked / 1000


async def _unless_gone(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The result of `work`, which is cancelled when the client hangs up; raises `ClientDisconnect` then."""
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        working.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # what is left of the body
