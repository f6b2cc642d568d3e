import dataclasses

import pytest

from serving.api.schemas import Parameters
from serving.api.wording import options_of
from serving.errors import Unprocessable
from serving.tasks.table import TASKS
from serving.tasks.task import Options

CLASSIFY, TAG, ANSWER, FILL, FEATURES = (
    TASKS[name]
    for name in ("text-classification", "token-classification", "question-answering", "fill-mask", "feature-extraction")
)
VALUES = {
    "truncate": True,
    "top_k": 3,
    "function_to_apply": "none",
    "aggregation_strategy": "first",
    "ignore_labels": ["O"],
    "stride": 4,
    "doc_stride": 5,
    "max_answer_len": 6,
    "max_question_len": 7,
    "max_seq_len": 8,
    "handle_impossible_answer": True,
    "align_to_words": False,
    "targets": ["it"],
    "pooling": "max",
    "normalize": True,
}
NEEDS = {"stride": {"aggregation_strategy": "simple"}}


def options(*tasks, **parameters) -> Options:
    return options_of(Parameters.model_validate(parameters), tasks)


def test_nothing_asked_for_is_every_default():
    assert options(*TASKS.values()) == Options()


@pytest.mark.parametrize("name", sorted(Parameters.model_fields.keys() - {"task_ids"}))
def test_every_parameter_reaches_the_tasks_that_know_it_and_is_refused_by_the_others(name):
    value = VALUES[name]
    expected = tuple(value) if isinstance(value, list) else value
    for task in TASKS.values():
        if name in task.parameters:
            found = options(task, **{name: value}, **NEEDS.get(name, {}))
            assert expected in dataclasses.astuple(found)
        elif name != "truncate":
            with pytest.raises(Unprocessable) as caught:
                options(task, **{name: value})
            assert caught.value.code == "wrong_parameter"
            assert caught.value.faults[0].pointer == f"/parameters/{name}"
            assert task.name in caught.value.detail


def test_an_explicit_null_asks_for_nothing():
    assert options(FEATURES, top_k=None, stride=None) == Options()


def test_one_task_of_several_is_enough():
    assert options(CLASSIFY, TAG, top_k=2).top_k == 2


def test_functions_are_those_that_every_task_has():
    for task in (ANSWER, FILL):
        with pytest.raises(Unprocessable) as caught:
            options(CLASSIFY, task, function_to_apply="sigmoid")
        assert caught.value.faults[0].pointer == "/parameters/function_to_apply"
    assert options(CLASSIFY, FEATURES, function_to_apply="sigmoid").function == "sigmoid"


def test_label_order_needs_raw_logits_and_an_explicit_null():
    assert options(CLASSIFY, function_to_apply="none", top_k=None).label_order
    assert not options(CLASSIFY, function_to_apply="none").label_order
    assert not options(CLASSIFY, function_to_apply="softmax", top_k=None).label_order
    assert not options(CLASSIFY, function_to_apply="none", top_k=1).label_order


def test_tasks_look_for_contradictions():
    with pytest.raises(Unprocessable) as caught:
        options(TAG, stride=3)
    assert caught.value.faults[0].pointer == "/parameters/stride"


def test_task_ids_belong_to_the_composition():
    assert options(CLASSIFY, task_ids=[0, "a"]) == Options()
