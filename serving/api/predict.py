"""`POST /v1/predict`: names to digests, texts to tickets, tickets to replies, replies to one answer."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.api.auth import require
from serving.api.body import StrictRoute
from serving.api.outcome import finished, residency, serialised, target, task_name, timing, word
from serving.api.rows import RowMaker, Rows
from serving.api.schemas import PredictAnswer, PredictRequest
from serving.api.selection import Selection, select
from serving.api.services import Services
from serving.api.wording import options_of
from serving.errors import DeadlineExceeded, Unprocessable
from serving.request import Result
from serving.tasks.task import Options
from serving.tenancy.keys import Caller

LARGE = 4096  # numbers in the rows' outputs
LARGE_AT_ONCE = 2


def routes(services: Services) -> APIRouter:
    """The data plane."""
    router = APIRouter(route_class=StrictRoute, tags=["predict"])
    predictor = Predictor(services)

    @router.post("/v1/predict", response_model=PredictAnswer, summary="Answer inputs with the adapters they name")
    async def predict(
        request: Request, body: PredictRequest, caller: Annotated[Caller, Depends(require("predict"))]
    ) -> Response:
        request_id = request.state.request_id
        name = request_id if request_id.startswith("req_") else f"req_{request_id}"
        answered = await _unless_gone(request, predictor.predict(body, caller.tenant, name))
        spent = ", ".join(f"{name};dur={ms:.1f}" for name, ms in answered.timing.items())
        return Response(answered.content, media_type="application/json", headers={"server-timing": spent})

    return router


@dataclass(frozen=True)
class Answered:
    """The answer as JSON, and its milliseconds."""

    content: bytes
    timing: dict[str, float]


class Predictor:
    """Answers one request at a time; holds the tokenizers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._rows = RowMaker(services)
        self._large = ThreadPoolExecutor(LARGE_AT_ONCE, "large-answer")  # small ones do not wait behind them

    async def predict(self, request: PredictRequest, tenant: str, name: str) -> Answered:
        """The answer, whose id is `name`; raises `ServiceError`, `DeadlineExceeded` when the request's time is over."""
        begun = time.perf_counter()
        timeout_s = self._timeout(request)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer(request, tenant, name, begun, timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {timeout_s * 1000:.0f} ms") from error

    async def _answer(
        self, request: PredictRequest, tenant: str, name: str, begun: float, timeout_s: float
    ) -> Answered:
        services = self._services
        self._rows.inputs(request)  # the caps come before any look-up
        selection = await select(request, tenant, services.directory, services.profile.geometry)
        options = options_of(request.parameters, selection.tasks)
        rows = await self._rows.rows(request, selection, options)
        services.metrics.tokenize_seconds.observe(rows.seconds)
        left_s = timeout_s - (time.perf_counter() - begun)
        if left_s <= 0:
            raise TimeoutError
        tickets = rows.tickets(tenant, selection, left_s)
        services.metrics.rows.inc(len(tickets))
        services.metrics.tokens.inc(rows.tokens)
        results = finished(request, rows, tickets, await services.submit.submit(tickets, left_s))
        pool = self._large if sum(result.output.size for result in results) > LARGE else None
        wording = partial(self._worded, name, selection, rows, results, options, begun)
        return await asyncio.get_running_loop().run_in_executor(pool, wording)

    def _worded(
        self,
        name: str,
        selection: Selection,
        rows: Rows,
        results: Sequence[Result],
        options: Options,
        begun: float,
    ) -> Answered:
        """In a thread of its own: an answer may hold megabytes, and others wait on the event loop."""
        outputs = word(selection, rows, results, options)
        answer: dict[str, Any] = {
            "id": name,
            "task": task_name(selection),
            "target": target(selection, self._services.profile),
            "outputs": outputs,
            "usage": {"prompt_tokens": rows.tokens, "truncated": rows.truncated},
            "timing_ms": timing(rows, results, time.perf_counter() - begun),
            "residency": residency(selection, results),
            "replica": ",".join(sorted({result.replica for result in results})),
        }
        return Answered(serialised(answer), answer["timing_ms"])

    def _timeout(self, request: PredictRequest) -> float:
        limits = self._services.limits
        asked = request.timeout_ms or limits.default_timeout_ms
        if asked > limits.max_timeout_ms:
            detail = f"timeout_ms is at most {limits.max_timeout_ms}"
            raise Unprocessable(detail, code="invalid_value", pointer="/timeout_ms")
        return asked / 1000


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Answered]) -> Answered:
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
