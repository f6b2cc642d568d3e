"""`POST /v1/predict`: names to digests, texts to tickets, tickets to replies, replies to one answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.api.auth import require
from serving.api.body import StrictRoute
from serving.api.deadlines import Deadline
from serving.api.outcome import digests, finished, residency, serialised, target, task_name, timing, word
from serving.api.rows import RowMaker, Rows
from serving.api.schemas import PredictAnswer, PredictRequest
from serving.api.screening import screened
from serving.api.selection import Selection
from serving.api.selections import Selections
from serving.api.services import Services
from serving.api.traced import engine_steps
from serving.api.uploads import UploadRoute, described
from serving.api.wording import options_of
from serving.errors import Unprocessable
from serving.logs import note
from serving.request import Reply, Result
from serving.tasks.task import Options
from serving.tenancy.admission import Admission, Size
from serving.tenancy.forecast import Work
from serving.tenancy.grants import Grant
from serving.tenancy.keys import Caller
from serving.tracing import span

# Numbers in the rows' outputs. Fewer than these are worded in less time than a thread's turn costs; of more than these
# wait small answers for no large one.
BRIEF, LARGE = 1024, 4096
LARGE_AT_ONCE = 2


def routes(services: Services, door: Admission) -> APIRouter:
    """The data plane."""
    images = services.profile.geometry.image is not None
    router = APIRouter(route_class=UploadRoute if images else StrictRoute, tags=["predict"])
    predictor = Predictor(services, door)

    @router.post(
        "/v1/predict",
        response_model=PredictAnswer,
        summary="Answer inputs with the adapters they name",
        dependencies=[Depends(screened(services.limits))],
        openapi_extra=described() if images else None,
    )
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
    """Answers one request at a time; holds the tokenizers.

    `door` decides who may come in. Without one nobody is refused: that is how a gated promote asks.
    """

    def __init__(
        self, services: Services, door: Admission | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._services = services
        self._door = door
        self._clock = clock
        self._layers = services.profile.geometry.layers
        self._selections = Selections(services.directory, services.profile.geometry)
        self._rows = RowMaker(services)
        self._large = ThreadPoolExecutor(LARGE_AT_ONCE, "large-answer")  # small ones do not wait behind them

    async def predict(self, request: PredictRequest, tenant: str, name: str) -> Answered:
        """The answer, whose id is `name`; raises `ServiceError`, `DeadlineExceeded` when the request's time is over."""
        deadline = Deadline.after(self._timeout(request), self._clock)
        inputs = self._rows.inputs(request)  # the caps come before any look-up
        characters = sum(item.characters for item in inputs)
        size = Size(self._rows.count(inputs), characters, self._rows.known_tokens(inputs))
        try:
            with self._entered(tenant, size, deadline) as grant:
                async with asyncio.timeout(deadline.left_s):
                    return await self._answer(request, tenant, name, deadline, grant)
        except TimeoutError as error:
            raise deadline.late() from error

    def _entered(self, tenant: str, size: Size, deadline: Deadline) -> AbstractContextManager[Grant | None]:
        return nullcontext() if self._door is None else self._door.enter(tenant, size, deadline.left_s)

    async def _answer(
        self, request: PredictRequest, tenant: str, name: str, deadline: Deadline, grant: Grant | None
    ) -> Answered:
        services = self._services
        selection = await self._selections.of(request, tenant)
        options = options_of(request.parameters, selection.tasks)
        note(digests=digests(selection))
        with span("tokenize"):
            rows = await self._rows.rows(request, selection, options, deadline)
        services.metrics.tokenize_seconds.observe(rows.seconds)
        results = await self._run(request, tenant, selection, rows, deadline, grant)
        wording = partial(self._worded, name, selection, rows, results, options, deadline)
        size = sum(result.output.size for result in results)
        if size <= BRIEF:
            return wording()
        return await asyncio.get_running_loop().run_in_executor(self._large if size > LARGE else None, wording)

    async def _run(
        self,
        request: PredictRequest,
        tenant: str,
        selection: Selection,
        rows: Rows,
        deadline: Deadline,
        grant: Grant | None,
    ) -> tuple[Result, ...]:
        """The results of the rows, paid for; raises the refusal of the first row that got none."""
        costs, left_s = rows.costs(self._layers), deadline.left_s
        if left_s <= 0:
            raise TimeoutError
        if grant is not None:
            grant.pay(Work(sum(costs), len(costs)), left_s)
        tickets = rows.tickets(tenant, selection, left_s)
        self._services.metrics.sent(tenant, len(tickets), rows.tokens)
        with span("dispatch", chorus__rows=len(tickets)):
            replies: Sequence[Reply] = await self._services.submit.submit(tickets, left_s)
            engine_steps(replies)
        if grant is not None:
            grant.settle(costs, replies)
        return finished(request, rows, tickets, replies)

    def _worded(
        self,
        name: str,
        selection: Selection,
        rows: Rows,
        results: Sequence[Result],
        options: Options,
        deadline: Deadline,
    ) -> Answered:
        """In a thread of its own unless it is brief: an answer may hold megabytes, and others wait on the event loop."""
        outputs = word(selection, rows, results, options)
        answer: dict[str, Any] = {
            "id": name,
            "task": task_name(selection),
            "target": target(selection, self._services.profile),
            "outputs": outputs,
            "usage": {"prompt_tokens": rows.tokens, "truncated": rows.truncated},
            "timing_ms": timing(rows, results, deadline.spent_s),
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


async def _unless_gone(request: Request, work: Awaitable[Answered]) -> Answered:
    """The result of `work`, which is cancelled when the client hangs up; raises `ClientDisconnect` then."""
    own, gone, waits = asyncio.current_task(), asyncio.ensure_future(_hung_up(request)), True
    assert own is not None, "a request is answered in a task"

    def leave(_: object) -> None:
        if waits:  # else it was answered in this very turn of the loop
            own.cancel()

    gone.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled() and not own.uncancel():  # nobody else cancels the request
            raise ClientDisconnect from gone.exception()
        raise
    finally:
        waits = False
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # what is left of the body
