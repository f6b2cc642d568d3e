import numpy as np
import pytest

from serving.errors import TooLarge, Unprocessable
from serving.request import Reduction
from serving.tasks.inputs import Question
from serving.tasks.question_answering import QuestionAnswering
from serving.tasks.task import Items, Options, Room
from serving.tasks.tokenization import Text
from tests.serving.tasks.pieces import answer, prepare

TASK = QuestionAnswering()
CONTEXT = "I HATE unbelievable café ! it zzz love you love it you hate café it"
ITEM = Question("zzz you I !", CONTEXT)
# What transformers 4.57's question answering pipeline answers to these logits (seed, scale), rows of these lengths.
PIPELINE = [
    (1, 4.0, {}, [26], [(0.9177888, 30, 38)]),
    (2, 1.0, {"top_k": 3}, [26], [(0.0537963, 25, 64), (0.0509575, 25, 54), (0.0263571, 7, 54)]),
    (
        3,
        1.0,
        {"top_k": 3, "max_answer_len": 4, "max_seq_len": 16, "doc_stride": 2},
        [16, 16, 12],
        [(0.3572494, 20, 24), (0.2111990, 51, 64), (0.0863769, 7, 19)],
    ),
    (
        4,
        0.5,
        {
            "top_k": 4,
            "handle_impossible_answer": True,
            "align_to_words": False,
            "max_seq_len": 14,
            "doc_stride": 0,
        },
        [14, 14, 12],
        [(0.1361793, 55, 63), (0.0917324, 55, 64), (0.0700770, 2, 6), (0.0518655, 39, 47)],
    ),
    (
        5,
        1.0,
        {"top_k": 2, "max_answer_len": 1, "max_seq_len": 20},
        [20] * 3,
        [(0.0879984, 20, 24), (0.0360550, 34, 38)],
    ),
]


@pytest.mark.parametrize(("seed", "scale", "options", "tokens", "expected"), PIPELINE, ids=str)
def test_the_answers_are_those_of_the_pipeline(seed, scale, options, tokens, expected):
    prepared = prepare(TASK, ITEM, **options)
    assert [piece.encoded.tokens for piece in prepared.pieces] == tokens
    generator = np.random.default_rng(seed)
    outputs = [generator.normal(size=(length, 2)) * scale for length in tokens]
    found = answer(TASK, prepared, outputs, **options)
    found = found if isinstance(found, list) else [found]
    assert [(item["start"], item["end"]) for item in found] == [item[1:] for item in expected]
    assert [item["score"] for item in found] == pytest.approx([item[0] for item in expected], rel=1e-4)
    assert all(item["answer"] == CONTEXT[item["start"] : item["end"]] for item in found)


def test_one_answer_is_an_object_and_several_are_a_list():
    item = Question("i", "you hate it")
    prepared = prepare(TASK, item)
    zeros = np.zeros((prepared.pieces[0].encoded.tokens, 2))
    assert isinstance(answer(TASK, prepared, [zeros]), dict)
    assert isinstance(answer(TASK, prepared, [zeros], top_k=2), list)
    single = prepare(TASK, Question("i", "you"))
    assert len(answer(TASK, single, [np.zeros((5, 2))], top_k=9)) == 1


def test_no_answer_is_an_answer_where_it_may_be():
    prepared = prepare(TASK, Question("i", "you hate it"))
    sure_of_none = np.zeros((7, 2))
    sure_of_none[0] = 9.0
    found = answer(TASK, prepared, [sure_of_none], handle_impossible_answer=True)
    assert (found["answer"], found["start"], found["end"]) == ("", 0, 0)
    assert answer(TASK, prepared, [sure_of_none])["answer"] != ""


def test_logits_of_every_window_come_raw_when_asked_for():
    options = {"function": "none", "max_seq_len": 16, "doc_stride": 2}
    prepared = prepare(TASK, ITEM, **options)
    outputs = [np.random.default_rng(i).normal(size=(n, 2)).astype(np.float32) for i, n in enumerate((16, 16, 12))]
    found = answer(TASK, prepared, outputs, **options)
    assert [window["start_logits"] for window in found] == [output[:, 0].tolist() for output in outputs]
    assert [window["end_logits"] for window in found] == [output[:, 1].tolist() for output in outputs]
    assert found[0]["offsets"][1] == [0, 3]


def test_a_plain_text_has_raw_logits_and_nothing_else():
    prepared = prepare(TASK, Text("i love", "it"), function="none")
    assert prepared.pieces[0].encoded.words == ["[CLS]", "i", "love", "[SEP]", "it", "[SEP]"]
    with pytest.raises(Unprocessable, match=r"takes \{question, context\}"):
        prepare(TASK, Text("i love"))


def test_both_logits_of_every_token_are_asked_for():
    prepared = prepare(TASK, ITEM)
    assert TASK.reduction(prepared, prepared.pieces[0], Options()) == Reduction("logits")


def test_a_prompt_makes_windows_shorter():
    lengths = [piece.encoded.tokens for piece in prepare(TASK, ITEM, Room(14, inserted=4)).pieces]
    assert lengths[0] == max(lengths) == 14


def test_a_question_is_cut_on_request_only_and_that_is_told():
    assert not prepare(TASK, ITEM).truncated
    cut = prepare(TASK, ITEM, max_question_len=2)
    assert cut.truncated
    assert cut.item == Question("zzz you", CONTEXT)
    assert cut.pieces[0].encoded.words[:4] == ["[CLS]", "[UNK]", "you", "[SEP]"]
    assert not prepare(TASK, ITEM, max_question_len=4).truncated


@pytest.mark.parametrize(
    ("item", "options", "code", "pointer"),
    [
        (Question("i", ""), {}, "unreadable_input", "/context"),
        (Question("i " * 12, "you " * 9), {"room": Room(14)}, "too_long", "/question"),
        (Question("i " * 12, "you " * 9), {"room": Room(14), "max_seq_len": 14}, "too_long", "/question"),
        (Question("i " * 12, "you " * 9), {"max_seq_len": 14}, "invalid_value", "/parameters/max_seq_len"),
        (Question("i", "you"), {"max_seq_len": 1}, "invalid_value", "/parameters/max_seq_len"),
        (Question("i", "you"), {"max_seq_len": 14, "doc_stride": 10}, "invalid_value", "/parameters/doc_stride"),
        (ITEM, {"max_seq_len": 14, "doc_stride": 7}, "invalid_value", "/parameters/doc_stride"),
    ],
    ids=str,
)
def test_what_has_no_windows_is_refused(item, options, code, pointer):
    with pytest.raises(Unprocessable) as caught:
        prepare(TASK, item, **options)
    assert (caught.value.code, caught.value.faults[0].pointer) == (code, pointer)


def test_a_usual_stride_that_does_not_fit_gives_way():
    tight = prepare(TASK, Question("i " * 9, "you " * 9), max_seq_len=16)
    assert [piece.encoded.tokens for piece in tight.pieces] == [16, 16, 16, 15]


def test_windows_are_counted_before_they_are_made(monkeypatch):
    monkeypatch.setattr("serving.tasks.tokenization.Tokenizer.windows", lambda *_: pytest.fail("made"))
    with pytest.raises(TooLarge) as caught:
        prepare(TASK, ITEM, Room(512, rows=2), max_seq_len=16, doc_stride=2)
    assert caught.value.code == "too_many_rows"


def test_the_window_that_must_be_longer_is_told_how_long():
    with pytest.raises(Unprocessable, match="max_seq_len must be 5 or more"):
        prepare(TASK, Question("i", "you"), max_seq_len=4)
    assert len(prepare(TASK, Question("i", "you"), max_seq_len=5).pieces) == 1


def test_no_answer_is_as_likely_as_the_window_that_finds_it_least_likely():
    options = {"max_seq_len": 16, "doc_stride": 2, "handle_impossible_answer": True}
    prepared = prepare(TASK, ITEM, **options)
    outputs = [np.zeros((n, 2)) for n in (16, 16, 12)]
    for output, logit in zip(outputs, (5.0, 3.0, 4.0), strict=True):
        output[0] = logit
    found = answer(TASK, prepared, outputs, **options)
    likely = np.exp(3.0) / (np.exp(3.0) + 9)  # the second window has nine tokens of the context
    assert (found["answer"], found["score"]) == ("", pytest.approx(likely**2))


@pytest.mark.parametrize(("name", "most"), [("top_k", 100), ("max_answer_len", 1000)])
def test_how_much_a_window_is_searched_for_is_bounded(name, most):
    TASK.check(Options(**{name: most}))
    with pytest.raises(Unprocessable, match=f"at most {most}") as caught:
        TASK.check(Options(**{name: most + 1}))
    assert caught.value.faults[0].pointer == f"/parameters/{name}"


def test_every_window_counts_as_often_as_answers_are_asked_for():
    prepared = prepare(TASK, ITEM, max_seq_len=16, doc_stride=2)
    assert TASK.items(prepared, None, Options()) == Items(3, "top_k")
    assert TASK.items(prepared, None, Options(top_k=7)) == Items(21, "top_k")
    assert TASK.items(prepared, None, Options(top_k=7, function="none")).count == 1
