import numpy as np

from serving.tasks.feature_extraction import FeatureExtraction
from serving.tasks.task import Options, Room
from serving.tasks.tokenization import Text
from tests.serving.tasks.pieces import answer, prepare

TASK = FeatureExtraction()


def test_every_token_special_ones_included_is_asked_for():
    prepared = prepare(TASK, Text("i love"))
    reduction = TASK.reduction(prepared, prepared.pieces[0], Options())
    assert (reduction.output, reduction.positions, reduction.pooling) == ("hidden_state", None, None)
    assert TASK.shape(prepared.pieces[0], None, Options()) == (4, None)


def test_the_numbers_are_not_touched():
    output = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = answer(TASK, prepare(TASK, Text("i love")), [output])
    assert np.array_equal(np.array(found, np.float32), output)


def test_truncate_cuts():
    prepared = prepare(TASK, Text("i love it", "you"), Room(5), truncate=True)
    assert (prepared.truncated, prepared.pieces[0].encoded.tokens) == (True, 5)
