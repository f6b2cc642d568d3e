import numpy as np
import pytest

from serving.tasks.task import Items, Options
from serving.tasks.text_classification import TextClassification
from serving.tasks.tokenization import Text
from tests.serving.samples import head_spec
from tests.serving.tasks import pieces

TASK = TextClassification()
PREPARED = pieces.prepare(TASK, Text("i"))
ABC = head_spec(("a", "b", "c"))
LOGITS = np.log(np.array([0.2, 0.5, 0.3], np.float32))


def answer(output, head, **options):
    return pieces.answer(TASK, PREPARED, [output], head, **options)


def test_all_labels_best_first_with_softmax():
    found = answer(LOGITS, ABC)
    assert [item["label"] for item in found] == ["b", "c", "a"]
    assert [item["score"] for item in found] == pytest.approx([0.5, 0.3, 0.2])


def test_top_k_keeps_the_best():
    assert [item["label"] for item in answer(LOGITS, ABC, top_k=2)] == ["b", "c"]
    assert len(answer(LOGITS, ABC, top_k=99)) == 3


def test_raw_logits_in_label_order():
    found = answer(LOGITS, ABC, function="none", label_order=True)
    assert [item["label"] for item in found] == ["a", "b", "c"]
    assert [item["score"] for item in found] == LOGITS.tolist()


def test_multi_label_uses_sigmoid():
    found = answer([0.0, 2.0], head_spec(("x", "y"), "multi_label"))
    assert [(item["label"], round(item["score"], 4)) for item in found] == [("y", 0.8808), ("x", 0.5)]


def test_regression_gives_the_value():
    assert answer([-7.5], head_spec(("stars",), "regression")) == [{"label": "stars", "score": -7.5}]


def test_a_single_label_stands_alone():
    assert answer([0.0], head_spec(("only",)))[0]["score"] == 0.5


def test_an_explicit_function_wins():
    found = answer([0.0, 0.0], head_spec(("x", "y"), "multi_label"), function="softmax")
    assert [item["score"] for item in found] == [0.5, 0.5]


def test_ties_keep_the_heads_order():
    assert [item["label"] for item in answer([1, 1, 1], ABC)] == ["a", "b", "c"]


def test_it_asks_for_the_heads_logits():
    asked = TASK.reduction(PREPARED, PREPARED.pieces[0], Options())
    assert (asked.output, asked.positions) == ("logits", None)


@pytest.mark.parametrize(("top_k", "count"), [(None, 3), (2, 2), (9, 3)])
def test_labels_count_as_far_as_they_are_asked_for(top_k, count):
    assert TASK.items(PREPARED, ABC, Options(top_k=top_k)) == Items(count, "top_k")
