"""One question to all replicas: by broadcast, or to each of them, with what it answers or why it does not.

A broadcast of Ray's has one time limit for all replicas, and when that is over, nobody's answer. Where an operator wants
to know what became of an act everywhere, a replica that is slow or gone has to cost no other its word.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from grpc import RpcError  # type: ignore[import-untyped]
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError, RequestCancelledError

from serving.dispatch.ports import ReplicaLeft
from serving.logs import log

ANSWER_S = 10.0  # how long a question waits for replicas that only have to look

LOST = (RayActorError, RpcError, ReplicaUnavailableError, DeploymentUnavailableError, RequestCancelledError)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why a replica gave none; one that is `silent` may still be at work."""

    why: str
    silent: bool = False


async def ask(handle: Any, method: str, *args: object, timeout_s: float) -> list[Any]:
    """The answers of all replicas that gave one; a replica that failed or is gone is left out, and logged.

    Raises `TimeoutError` where one neither answers nor fails.
    """
    try:
        answers = await handle.broadcast(method, *args).results_async(timeout_s=timeout_s, return_exceptions=True)
    except LOST:  # nobody is there, which `Fleet` logs when it becomes so
        return []
    failed = [repr(answer) for answer in answers if isinstance(answer, BaseException)]
    if failed:
        log("fleet", "some replicas gave no answer", level=logging.WARNING, method=method, reasons=failed)
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def broadcast(handle: Any, method: str, *args: object, timeout_s: float = ANSWER_S) -> list[Any]:
    """`ask`, for questions that may go unanswered: none in time is no answers."""
    try:
        return await ask(handle, method, *args, timeout_s=timeout_s)
    except TimeoutError:
        log("fleet", "no answer in time", level=logging.WARNING, method=method)
        return []


async def each(handle: Any, method: str, *args: object, replicas: Iterable[str], timeout_s: float) -> dict[str, Any]:
    """By replica its answer or `NoAnswer`, in order. The deployment's router must follow the keyword `replica`."""
    call, loop, named = handle.options(method_name=method), asyncio.get_running_loop(), sorted(replicas)
    # Empty contexts: all calls that are made in one of Ray's requests have its id, by which Ray's router knows them, so
    # that of two at a time one gets the other's replica, and the other none.
    tasks = [loop.create_task(_one(call, args, replica, timeout_s), context=Context()) for replica in named]
    return dict(zip(named, await asyncio.gather(*tasks), strict=True))


async def _one(call: Any, args: tuple[object, ...], replica: str, timeout_s: float) -> Any:
    try:
        return await asyncio.wait_for(call.remote(*args, replica=replica), timeout_s)
    except Exception as error:
        log("fleet", "a replica gave no answer", level=logging.WARNING, replica=replica, reason=repr(error))
        return _why(error, timeout_s)


def _why(error: Exception, timeout_s: float) -> NoAnswer:
    if isinstance(error, TimeoutError):
        return NoAnswer(f"no answer in {timeout_s:g} s", silent=True)
    if isinstance(error, (*LOST, ReplicaLeft)):
        return NoAnswer("this replica is gone")
    return NoAnswer("it failed, and its log says why")  # not in its own words: they may name what nobody here may see
