"""Hidden states of an image."""

import numpy as np

from serving.request import Reduced, Reduction
from serving.tasks.image_features import ImageFeatures
from serving.tasks.inputs import Image
from serving.tasks.task import Options, Patches, Piece, Prepared, form_fault
from serving.tasks.tokenization import Text

TASK = ImageFeatures()
PIECE = Piece(Patches(np.zeros((8, 12, 3), np.uint8), 7))


def test_a_vector_per_patch_and_one_for_the_class():
    prepared = Prepared(Image(b"x"), (PIECE,))
    states = np.arange(14, dtype=np.float32).reshape(7, 2)
    assert TASK.reduction(prepared, PIECE, Options()) == Reduction("hidden_state")
    assert TASK.shape(PIECE, None, Options()) == (7, None)
    assert TASK.answer(prepared, [Reduced(states)], None, Options()) == states.tolist()
    assert "not a text" in form_fault(TASK, Text("i")).detail
