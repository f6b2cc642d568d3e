import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.lora import TURNED
from adapters.methods.tuners.boft import BOFT
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored


def rotation(data):
    skew, eye = (data - data.T) / 2, torch.eye(len(data))
    return (eye - skew) @ torch.inverse(eye + skew)


def test_blocks_turn_the_input_and_outputs_are_scaled():
    said = {"block": 4, "factors": 1}
    tensors = stored(BOFT, said)
    held = at(tensors, SITE)
    turn = torch.block_diag(*(rotation(own) for own in held["R"][0]))
    assert close(turn @ turn.T, torch.eye(len(turn)))
    made = block(BOFT, said, tensors)
    assert made.variant == TURNED
    assert close(delta(made), torch.diag(held["s"][:, 0]) @ WEIGHT @ turn.T - WEIGHT)


def test_the_second_factor_mixes_the_halves_of_neighbouring_blocks():
    said = {"block": 4, "factors": 2}
    tensors = stored(BOFT, said)
    held = at(tensors, SITE)
    wide = WEIGHT.shape[1]
    first = torch.block_diag(*(rotation(own) for own in held["R"][0]))
    order: list[int] = []
    for pair in range(wide // 8):  # of the half blocks 0 1 2 3 of a pair of blocks: 0 and 2, then 1 and 3
        order += [8 * pair + 2 * half + place for half in (0, 2, 1, 3) for place in range(2)]
    swap = torch.eye(wide)[order]
    second = swap @ torch.block_diag(*(rotation(own) for own in held["R"][1])) @ swap.T
    want = torch.diag(held["s"][:, 0]) @ WEIGHT @ (second @ first).T - WEIGHT
    assert close(delta(block(BOFT, said, tensors)), want)


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"block": 5, "factors": 1}, "the block 5 does not divide"), ({"block": 4, "factors": 9}, "butterfly")],
)
def test_blocks_that_do_not_fit_are_refused(said, reason):
    with pytest.raises(Misfit, match=reason):
        stored(BOFT, said)
