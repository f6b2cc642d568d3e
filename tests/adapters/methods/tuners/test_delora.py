import torch

from adapters.methods.tuners.delora import DELORA
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored


def test_directions_of_length_one_with_a_strength_of_their_own():
    tensors = stored(DELORA, {"rank": 3})
    held = at(tensors, SITE)
    want = torch.zeros_like(WEIGHT)
    for row, column in zip(held["A"], held["B"].T, strict=True):
        want += held["lambda"] / 3 * torch.outer(column / column.norm(), row / row.norm()) * held["w_norm"]
    assert close(delta(block(DELORA, {"rank": 3}, tensors)), want)


def test_a_direction_of_no_length_adds_nothing():
    tensors = stored(DELORA, {"rank": 2}) | {f"{SITE}/B": torch.zeros(WEIGHT.shape[0], 2)}
    assert torch.equal(delta(block(DELORA, {"rank": 2}, tensors)), torch.zeros_like(WEIGHT))
