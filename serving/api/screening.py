"""How much a body asks for, counted in the parsed JSON before models, names or texts are made of it.

Two megabytes of JSON hold half a million empty inputs or adapters; reading each of them into a model or a reference takes
a second of the event loop, for everybody. What has more members than a request may have is refused here by counting.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request

from adapters.composition import BLOCKS, MAX_DEPTH, MAX_LEAVES
from serving.api.body import StrictRequest
from serving.config import Limits
from serving.errors import TooLarge, Unprocessable

LISTS = ("targets", "ignore_labels", "task_ids")
MOST_MEMBERS = 4096  # of a list among the parameters; what each may hold is told by the task
MOST_NODES = MAX_LEAVES * (MAX_DEPTH + 1)  # names and blocks of the largest composition


def screened(limits: Limits) -> Callable[[Request], Awaitable[None]]:
    """A dependency that screens the body of a request for predictions; FastAPI runs it before it makes the model."""

    async def screen_body(request: Request) -> None:
        if isinstance(request, StrictRequest):
            screen(request.value, limits)

    return screen_body


def screen(body: object, limits: Limits) -> None:
    """Raise `TooLarge` or `Unprocessable` for more inputs, rows, words or adapters than one request may have."""
    if not isinstance(body, Mapping):
        return
    inputs = body.get("inputs")
    screen_inputs(inputs if isinstance(inputs, list) else [inputs], limits)
    screen_composition(body.get("adapters"))
    parameters = body.get("parameters")
    given = parameters if isinstance(parameters, Mapping) else {}
    for name in LISTS:
        value = given.get(name)
        if isinstance(value, list) and len(value) > MOST_MEMBERS:
            detail = f"the list has {len(value)} members; at most {MOST_MEMBERS}"
            raise Unprocessable(detail, code="invalid_value", pointer=f"/parameters/{name}")


def screen_inputs(inputs: list[Any], limits: Limits) -> None:
    """Count inputs, choices and words."""
    if len(inputs) > limits.max_inputs:
        detail = f"{len(inputs)} inputs; at most {limits.max_inputs} in one request"
        raise TooLarge(detail, code="too_many_inputs", pointer="/inputs")
    rows = 0
    for item in inputs:
        if not isinstance(item, Mapping):
            rows += 1
            continue
        choices, words = item.get("choices"), item.get("words")
        rows += len(choices) if isinstance(choices, list) else 1
        if isinstance(words, list) and len(words) > limits.max_input_characters:
            detail = f"a sentence has {len(words)} words; at most {limits.max_input_characters}"
            raise Unprocessable(detail, code="too_long", pointer="/inputs")
    if rows > limits.max_rows:
        detail = f"{rows} rows (each choice makes one); at most {limits.max_rows} in one request"
        raise TooLarge(detail, code="too_many_rows", pointer="/inputs")


def screen_composition(adapters: object, pointer: str = "/adapters") -> None:
    """Count names and blocks; raises `Unprocessable` where no composition has so many."""
    if isinstance(adapters, str):
        if adapters.count("+") >= MAX_LEAVES:
            raise _crowded(pointer)
        return
    nodes, waiting = 0, [adapters]
    while waiting:
        children = _children(waiting.pop())
        nodes += len(children)
        if nodes > MOST_NODES:
            raise _crowded(pointer)
        waiting += children


def _children(value: object) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        return [child for kind in BLOCKS if isinstance(value.get(kind), list) for child in value[kind]]
    return []


def _crowded(pointer: str) -> Unprocessable:
    detail = f"more than {MAX_LEAVES} adapters in one composition"
    return Unprocessable(detail, code="invalid_composition", pointer=pointer)
