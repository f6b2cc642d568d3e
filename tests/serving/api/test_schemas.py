import pytest
from pydantic import ValidationError

from serving.api.inputs import TextInput
from serving.api.schemas import PredictRequest


def parse(**body) -> PredictRequest:
    return PredictRequest.model_validate(body)


def test_one_input_or_many():
    assert parse(inputs="a").items == ["a"]
    assert parse(inputs={"text": "a", "text_pair": "b"}).items == [TextInput(text="a", text_pair="b")]
    assert parse(inputs=["a", {"text": "b"}]).items == ["a", TextInput(text="b")]
    assert parse(inputs=[]).items == []


def test_pointers_follow_the_form():
    assert parse(inputs="a").pointer(0) == "/inputs"
    assert parse(inputs=["a"]).pointer(0) == "/inputs/0"


def test_everything_but_the_inputs_has_a_default():
    body = parse(inputs="a")
    assert (body.adapters, body.embedding, body.head, body.task, body.timeout_ms) == (None,) * 5
    assert (body.parameters.top_k, body.parameters.function_to_apply, body.parameters.truncate) == (None, None, False)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": None},
        {"inputs": 1},
        {"inputs": [["a"]]},
        {"inputs": [None]},
        {"inputs": {"text": 1}},
        {"inputs": {"text": "a", "textpair": "b"}},
        {"inputs": {}},
        {"inputs": "a", "embedding": ["x"]},
        {"inputs": "a", "head": 1},
        {"inputs": "a", "task": "summarization"},
        {"inputs": "a", "parameters": {"top_k": 0}},
        {"inputs": "a", "parameters": {"top_k": "2"}},
        {"inputs": "a", "parameters": {"top_k": 2.0}},
        {"inputs": "a", "parameters": {"top_k": True}},
        {"inputs": "a", "parameters": {"truncate": "yes"}},
        {"inputs": "a", "parameters": {"truncate": 1}},
        {"inputs": "a", "parameters": {"function_to_apply": "relu"}},
        {"inputs": "a", "parameters": {"aggregation": "max"}},
        {"inputs": "a", "parameters": []},
        {"inputs": "a", "parameters": {"task_ids": [1.5]}},
        {"inputs": "a", "parameters": {"task_ids": [True]}},
        {"inputs": "a", "parameters": {"task_ids": 0}},
        {"inputs": "a", "parameters": {"aggregation_strategy": "mean"}},
        {"inputs": "a", "parameters": {"stride": -1}},
        {"inputs": "a", "parameters": {"max_answer_len": 0}},
        {"inputs": "a", "parameters": {"targets": "x"}},
        {"inputs": "a", "parameters": {"targets": []}},
        {"inputs": "a", "parameters": {"pooling": "sum"}},
        {"inputs": "a", "parameters": {"normalize": 1}},
        {"inputs": "a", "timeout_ms": 0},
        {"inputs": "a", "timeout_ms": 1.5},
        {"inputs": "a", "adapter": "x"},
    ],
    ids=str,
)
def test_nothing_is_coerced_and_nothing_unknown_is_ignored(body):
    with pytest.raises(ValidationError):
        parse(**body)
