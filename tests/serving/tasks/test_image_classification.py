"""Labels of an image: worded as those of a text, by the names of the Hugging Face Inference API."""

import numpy as np
import pytest

from serving.request import Reduced, Reduction
from serving.tasks.image_classification import ImageClassification
from serving.tasks.inputs import Choices, Image
from serving.tasks.task import Items, Options, Patches, Piece, Prepared, form_fault
from serving.tasks.tokenization import Text
from tests.serving.samples import head_spec

TASK = ImageClassification()
PIECE = Piece(Patches(np.zeros((8, 12, 3), np.uint8), 7))
PREPARED = Prepared(Image("aGk="), (PIECE,))
HEAD = head_spec(("a", "b", "c"))


def test_an_image_is_one_row_of_a_class_token_and_patches():
    assert (PIECE.row.tokens, PIECE.row.input_ids.tolist(), PIECE.row.type_ids) == (7, [0] * 7, None)
    assert PIECE.pixels is PIECE.row.pixels
    assert TASK.reduction(PREPARED, PIECE, Options()) == Reduction("logits")
    assert TASK.shape(PIECE, HEAD, Options()) == (3,)
    assert TASK.items(PREPARED, HEAD, Options(top_k=2)) == Items(2, "top_k")


def test_labels_come_best_first():
    shares = [Reduced(np.log(np.array([0.2, 0.5, 0.3], np.float32)))]
    found = TASK.answer(PREPARED, shares, HEAD, Options(top_k=2))
    assert [item["label"] for item in found] == ["b", "c"]
    assert [item["score"] for item in found] == pytest.approx([0.5, 0.3])


@pytest.mark.parametrize("item", [Text("i"), Choices("i", ("a",))])
def test_texts_are_refused(item):
    assert "takes {image}, not" in form_fault(TASK, item).detail
    assert form_fault(TASK, Image(b"x")) is None
