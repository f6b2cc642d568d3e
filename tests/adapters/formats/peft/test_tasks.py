import pytest

from adapters.errors import Misfit
from adapters.formats.peft.table import TUNERS
from adapters.formats.peft.tasks import COUNTS, Task, task_of


def poly(tasks):
    return {"peft_type": "POLY", "n_tasks": tasks}


def test_tuners_of_tasks_know_the_setting_that_counts_them():
    assert all(member in TUNERS[kind].settings for kind, member in COUNTS.items())


def test_a_task_is_taken_by_its_number():
    assert task_of(poly(3), 2) == Task(2, 3)
    assert task_of({"peft_type": "MULTITASK_PROMPT_TUNING", "num_tasks": 2}, 0) == Task(0, 2)


def test_one_task_alone_need_not_be_said_and_is_not():
    for config in (poly(1), poly(None), {"peft_type": "POLY"}):
        assert task_of(config, None) == task_of(config, 0) == Task()
    assert Task().said == {}
    assert Task(0, 2).said == {"tasks": 2, "task": 0}
    assert task_of({"peft_type": "LORA", "n_tasks": 5}, None) == Task()


@pytest.mark.parametrize(
    ("config", "task", "reason"),
    [
        (poly(3), None, "n_tasks is 3: say which task the package is for (task_id, from 0 to 2)"),
        (poly(3), 3, "task_id is 3, but n_tasks is 3: it counts from 0 to 2"),
        (poly(3), -1, "task_id is -1, but n_tasks is 3: it counts from 0 to 2"),
        (poly(1), 1, "task_id is 1, but n_tasks is 1: it counts from 0 to 0"),
        (poly(0), 0, "n_tasks must be a positive integer, not 0"),
        (poly("two"), 0, "n_tasks must be a positive integer, not 'two'"),
        ({"peft_type": "LORA"}, 0, "task_id is 0, but LORA has no tasks: leave it out"),
    ],
)
def test_what_names_no_task_is_refused_with_what_would(config, task, reason):
    with pytest.raises(Misfit) as caught:
        task_of(config, task)
    assert caught.value.reasons == (reason,)
