"""Which task of a folder that was trained on several: PEFT is told one with every row, a package is for one alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.errors import Misfit

# peft_type -> the setting that says how many tasks a folder holds.
COUNTS: Mapping[str, str] = {"MULTITASK_PROMPT_TUNING": "num_tasks", "POLY": "n_tasks"}


@dataclass(frozen=True)
class Task:
    """A task by its number, and how many there are. `said`: what a part says of it, nothing where there is one alone."""

    number: int = 0
    count: int = 1

    @property
    def said(self) -> dict[str, int]:
        """See the class."""
        return {} if self.count == 1 else {"tasks": self.count, "task": self.number}


ALONE = Task()


def task_of(config: Mapping[str, Any], task_id: int | None) -> Task:
    """The task of a folder that was asked for; raises `Misfit` where it has several and none is said, or not that one."""
    member = COUNTS.get(str(config.get("peft_type")))
    if member is None:
        if task_id is not None:
            raise Misfit([f"task_id is {task_id}, but {config.get('peft_type')} has no tasks: leave it out"])
        return ALONE
    count = config.get(member)
    count = 1 if count is None else count
    if type(count) is not int or count < 1:
        raise Misfit([f"{member} must be a positive integer, not {count!r}"])
    if task_id is None and count > 1:
        raise Misfit([f"{member} is {count}: say which task the package is for (task_id, from 0 to {count - 1})"])
    number = task_id or 0
    if not 0 <= number < count:
        raise Misfit([f"task_id is {number}, but {member} is {count}: it counts from 0 to {count - 1}"])
    return Task(number, count)
