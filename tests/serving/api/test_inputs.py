import pytest
from pydantic import TypeAdapter, ValidationError

from serving.api.inputs import Inputs, input_of
from serving.tasks.inputs import Choices, Question, Words
from serving.tasks.tokenization import Text

PARSE = TypeAdapter(Inputs).validate_python


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("i", Text("i")),
        ({"text": "i"}, Text("i")),
        ({"text": "i", "text_pair": "you"}, Text("i", "you")),
        ({"question": "i", "context": "it"}, Question("i", "it")),
        ({"text": "i", "choices": ["a", "b"]}, Choices("i", ("a", "b"))),
        ({"question": "i", "choices": ["a"]}, Choices("i", ("a",))),
        ({"words": ["a", "b"]}, Words(("a", "b"))),
    ],
    ids=str,
)
def test_every_form_is_told_by_its_members(raw, meant):
    assert input_of(PARSE(raw)) == meant
    assert [input_of(item) for item in PARSE([raw, "i"])] == [meant, Text("i")]


@pytest.mark.parametrize(
    ("raw", "missing"),
    [
        ({}, "text"),
        ({"text_pair": "i"}, "text"),
        ({"question": "i"}, "context"),
        ({"context": "i"}, "question"),
        ({"choices": ["i"]}, "text"),
        ({"words": []}, "words"),
        ({"text": "i", "choices": []}, "choices"),
        ({"text": "i", "context": "i"}, "question"),
        ({"question": "i", "choices": ["i"], "text": "i"}, "text"),
    ],
    ids=str,
)
def test_a_refusal_points_to_the_member_of_the_form_that_was_meant(raw, missing):
    with pytest.raises(ValidationError) as caught:
        PARSE(raw)
    assert missing in {error["loc"][-1] for error in caught.value.errors()}


@pytest.mark.parametrize("raw", [None, 1, True, [None], [["i"]], [1]], ids=str)
def test_what_is_no_input_is_told_what_one_is(raw):
    with pytest.raises(ValidationError, match=r"\{question, context\}"):
        PARSE(raw)
