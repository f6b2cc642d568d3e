import sys
from subprocess import run
from typing import get_args

import pytest

from adapters.manifest import HEAD_TYPES
from serving.tasks.inputs import Image
from serving.tasks.table import IMAGE_TASKS, TASKS, task_of, tasks_of
from serving.tasks.task import Function
from tests.adapters import builders
from tests.serving.samples import head_of, head_spec

SERVED = set(HEAD_TYPES) - {"causal_lm", "seq2seq_lm"}  # those generate, in Python


def test_every_type_of_head_has_exactly_one_task():
    for kind in SERVED:
        assert sum(kind in task.heads for task in TASKS.values()) == 1
    assert {kind for task in TASKS.values() for kind in task.heads} == SERVED


@pytest.mark.parametrize(
    ("head", "task"),
    [
        (head_spec(("a",), "single_label"), "text-classification"),
        (head_spec(("a",), "multi_label"), "text-classification"),
        (head_spec(("a",), "regression"), "text-classification"),
        (head_spec(("a",), "token"), "token-classification"),
        (head_of("question_answering"), "question-answering"),
        (head_of("multiple_choice"), "multiple-choice"),
        (head_of("masked_lm"), "fill-mask"),
        (head_of("dependency_parsing"), "dependency-parsing"),
    ],
    ids=str,
)
def test_a_head_leads_to_its_task(head, task):
    assert task_of(head).name == task


def test_a_head_that_generates_answers_no_task_of_one_pass():
    assert task_of(head_of("causal_lm")) is None


def test_tasks_without_a_head_are_those_that_read_states():
    assert [task.name for task in TASKS.values() if not task.heads] == ["sentence-embedding", "feature-extraction"]


def test_a_backbone_of_images_is_asked_for_what_images_have():
    images, text = builders.profile("vit").geometry, builders.profile("bert").geometry
    assert list(tasks_of(images)) == ["image-classification", "feature-extraction"]
    assert tasks_of(text) is TASKS
    assert all(task.reads == (Image,) and not task.pairs for task in IMAGE_TASKS.values())
    for problem in ("single_label", "multi_label", "regression"):
        assert task_of(head_spec(("a",), problem), IMAGE_TASKS).name == "image-classification"
    assert task_of(head_spec(("a",), "token"), IMAGE_TASKS) is None


def test_names_functions_and_parameters_agree():
    for name, task in (*TASKS.items(), *IMAGE_TASKS.items()):
        assert task.name == name
        assert task.functions <= set(get_args(Function))
        assert bool(task.functions) == ("function_to_apply" in task.parameters)


def test_tasks_bring_no_torch_along():
    code = (
        "import sys; import serving.tasks.table, serving.tasks.vocabularies; "
        "print([m for m in ('torch', 'transformers', 'ray') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
