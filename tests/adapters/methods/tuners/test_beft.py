import torch

from adapters.methods.tuners.beft import BEFT
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, stored


def test_a_vector_is_added_to_the_output_beside_the_frozen_bias():
    tensors = stored(BEFT, {})
    made = block(BEFT, {}, tensors)
    assert made.method == "biases"
    assert torch.equal(made.tensors["shift"], at(tensors, SITE)["bias"][0])
    assert made.tensors["shift"].shape == WEIGHT.shape[:1]
