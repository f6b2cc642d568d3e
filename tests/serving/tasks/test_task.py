import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import TooLarge, Unprocessable
from serving.tasks.inputs import Choices, Question, Words
from serving.tasks.table import TASKS
from serving.tasks.task import Items, Options, Room, fitted, form_fault, scores
from serving.tasks.tokenization import Text
from tests.serving.tasks.pieces import TOKENIZER, prepare

logits = st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=6).map(lambda x: np.array(x, np.float32))


@given(logits)
def test_softmax_sums_to_one_and_keeps_the_order(values):
    found = scores(values, "softmax")
    assert found.sum() == pytest.approx(1.0)
    assert found[values.argmax()] == found.max()


@given(logits)
def test_sigmoid_is_the_logistic_function(values):
    assert scores(values, "sigmoid") == pytest.approx(1 / (1 + np.exp(-values.astype(np.float64))))


def test_none_gives_the_logits_themselves():
    values = np.array([[0.1, -3.0]], np.float32)
    assert np.array_equal(scores(values, "none"), values)


def test_extreme_logits_do_not_overflow():
    values = np.array([1e30, -1e30], np.float32)
    assert scores(values, "softmax").tolist() == [1.0, 0.0]
    assert scores(values, "sigmoid").tolist() == [1.0, 0.0]


def test_softmax_runs_over_the_last_axis():
    assert scores(np.zeros((3, 4), np.float32), "softmax").tolist() == [[0.25] * 4] * 3


READERS = {
    Text: {
        "text-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "dependency-parsing",
        "sentence-embedding",
        "feature-extraction",
    },
    Question: {"question-answering"},
    Choices: {"multiple-choice"},
    Words: {"dependency-parsing"},
}


@pytest.mark.parametrize(
    "item", [Text("i"), Question("i", "it"), Choices("i", ("it",)), Words(("i",))], ids=lambda item: type(item).__name__
)
def test_an_input_of_the_wrong_form_is_refused_by_the_name_of_its_form(item):
    refused = {name: form_fault(task, item) for name, task in TASKS.items()}
    assert {name for name, fault in refused.items() if fault is None} == READERS[type(item)]
    for name, fault in refused.items():
        if fault is not None:
            assert fault.code == "wrong_input"
            assert fault.detail.startswith(f"{name} takes ")


def test_pairs_are_for_those_who_read_them():
    refused = {name for name, task in TASKS.items() if task.pairs is False}
    assert refused == {"token-classification", "multiple-choice", "dependency-parsing"}
    fault = form_fault(TASKS["token-classification"], Text("i", "you"))
    assert fault is not None
    assert (fault.code, fault.faults[0].pointer) == ("no_pairs", "/text_pair")


def test_a_row_that_does_not_fit_is_refused_with_numbers_or_cut():
    text = Text("i love it you hate it")
    (row,) = TOKENIZER.encode([text])
    assert fitted(text, row, TOKENIZER, Room(8), Options()) == (row, False)
    with pytest.raises(Unprocessable) as caught:
        fitted(text, row, TOKENIZER, Room(5, inserted=3), Options())
    assert caught.value.faults[0].detail == "the input has 8 tokens; at most 5 fit beside the 3 of the adapter's prompt"
    assert '"truncate": true' in caught.value.detail
    cut, was_cut = fitted(text, row, TOKENIZER, Room(5), Options(truncate=True))
    assert (cut.tokens, was_cut) == (5, True)


def test_one_text_is_one_row():
    task = TASKS["text-classification"]
    prepared = prepare(task, Text("i", "you"))
    assert [piece.encoded.tokens for piece in prepared.pieces] == [5]
    with pytest.raises(TooLarge, match="room for 0 more"):
        prepare(task, Text("i"), Room(8, rows=0))


def test_what_only_tokens_bound_counts_once_and_needs_no_vocabulary():
    for name in ("token-classification", "sentence-embedding", "feature-extraction"):
        options = Options(top_k=7)
        assert TASKS[name].settle(options, TOKENIZER) is options
        assert TASKS[name].items(prepare(TASKS[name], Text("i love it")), None, options) == Items(1)
