import sys
from subprocess import run

import pytest

from adapters.manifest import PROBLEM_TYPES
from serving.tasks.table import TASKS, task_of
from tests.serving.samples import head_spec


def test_every_problem_type_has_exactly_one_task():
    for problem in PROBLEM_TYPES:
        assert sum(problem in task.problem_types for task in TASKS.values()) == 1


@pytest.mark.parametrize(
    ("problem", "task"),
    [
        ("single_label", "text-classification"),
        ("multi_label", "text-classification"),
        ("regression", "text-classification"),
        ("token", "token-classification"),
    ],
)
def test_a_head_leads_to_its_task(problem, task):
    assert task_of(head_spec(("a",), problem)).name == task


def test_tasks_bring_no_torch_along():
    code = (
        "import sys; import serving.tasks.table, serving.tasks.vocabularies; "
        "print([m for m in ('torch', 'transformers', 'ray') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
