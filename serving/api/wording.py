"""The parameters of a request as the tasks know them; what means nothing to any of them is refused."""

from collections.abc import Sequence
from typing import Any

from serving.api.schemas import Parameters
from serving.errors import Unprocessable
from serving.tasks.task import Options, Task

_NOT_OF_TASKS = frozenset({"task_ids"})  # belongs to the composition
_RENAMED = {"aggregation_strategy": "aggregation", "function_to_apply": "function"}


def options_of(given: Parameters, tasks: Sequence[Task]) -> Options:
    """What was asked for; raises `Unprocessable` with a pointer for what no task, or not this one, can do."""
    asked = {name: getattr(given, name) for name in given.model_fields_set - _NOT_OF_TASKS}
    wishes = {name: value for name, value in asked.items() if value is not None}
    known = frozenset(name for task in tasks for name in task.parameters) | {"truncate"}
    for name in sorted(wishes.keys() - known):
        detail = f"{name} means nothing to {' or '.join(task.name for task in tasks)}"
        raise Unprocessable(detail, code="wrong_parameter", pointer=f"/parameters/{name}")
    function = given.function_to_apply
    for task in tasks:
        if function is not None and function not in task.functions and "function_to_apply" in task.parameters:
            detail = f"{task.name} applies {' or '.join(sorted(task.functions))}"
            raise Unprocessable(detail, code="wrong_parameter", pointer="/parameters/function_to_apply")
    label_order = function == "none" and given.top_k is None and "top_k" in given.model_fields_set
    fields: dict[str, Any] = {
        _RENAMED.get(name, name): tuple(value) if isinstance(value, list) else value for name, value in wishes.items()
    }
    options = Options(label_order=label_order, **fields)
    for task in tasks:
        task.check(options)
    return options
