import pytest

from serving.errors import TooLarge, Unprocessable
from serving.request import Reduction
from serving.tasks.inputs import Choices
from serving.tasks.multiple_choice import MultipleChoice
from serving.tasks.task import Options, Room
from tests.serving.samples import head_of
from tests.serving.tasks.pieces import answer, prepare

TASK = MultipleChoice()
HEAD = head_of("multiple_choice")
ITEM = Choices("you", ("love", "hate it", "it"))


def test_every_choice_is_a_pair_with_the_text():
    prepared = prepare(TASK, ITEM)
    assert [piece.encoded.words for piece in prepared.pieces] == [
        ["[CLS]", "you", "[SEP]", "love", "[SEP]"],
        ["[CLS]", "you", "[SEP]", "hate", "it", "[SEP]"],
        ["[CLS]", "you", "[SEP]", "it", "[SEP]"],
    ]
    assert TASK.reduction(prepared, prepared.pieces[0], Options()) == Reduction("logits")


def test_softmax_over_the_choices_best_first():
    found = answer(TASK, prepare(TASK, ITEM), [[0.0], [2.0], [1.0]], HEAD)
    assert [(item["label"], item["index"]) for item in found] == [("hate it", 1), ("it", 2), ("love", 0)]
    assert [item["score"] for item in found] == pytest.approx([0.66524, 0.24473, 0.09003], abs=1e-5)


def test_raw_scores_in_the_order_written_and_the_best_k():
    prepared = prepare(TASK, ITEM)
    raw = answer(TASK, prepared, [[0.0], [2.0], [1.0]], HEAD, function="none", label_order=True)
    assert [(item["score"], item["index"]) for item in raw] == [(0.0, 0), (2.0, 1), (1.0, 2)]
    assert [item["index"] for item in answer(TASK, prepared, [[1.0]] * 3, HEAD, top_k=2)] == [0, 1]


def test_every_choice_that_is_too_long_is_named():
    item = Choices("you", ("i love it", "it", "i hate it"))
    with pytest.raises(Unprocessable) as caught:
        prepare(TASK, item, Room(6))
    assert caught.value.code == "too_long"
    assert [fault.pointer for fault in caught.value.faults] == ["/choices/0", "/choices/2"]
    cut = prepare(TASK, item, Room(6), truncate=True)
    assert cut.truncated
    assert [piece.encoded.tokens for piece in cut.pieces] == [6, 5, 6]


def test_no_more_rows_than_may_come():
    with pytest.raises(TooLarge, match="room for 2 more"):
        prepare(TASK, ITEM, Room(512, rows=2))
