import numpy as np

from serving.tasks.feature_extraction import FeatureExtraction
from serving.tasks.task import Options
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import tokenizer_json

ENCODED = Tokenizer(tokenizer_json(), vocabulary=64, types=2).encode([Text("i love")])[0]


def test_every_token_special_ones_included_is_asked_for():
    reduction = FeatureExtraction().reduction(ENCODED)
    assert (reduction.output, reduction.positions) == ("hidden_state", None)


def test_the_numbers_are_not_touched():
    output = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = FeatureExtraction().answer(output, ENCODED, None, Options())
    assert np.array_equal(np.array(found, np.float32), output)
