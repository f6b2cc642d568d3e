import pytest
import torch

from adapters.methods.lora import TURNED
from adapters.methods.tuners.oft import OFT
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored


def skew(packed, size):
    matrix = torch.zeros(size, size)
    matrix[tuple(torch.triu_indices(size, size, 1))] = packed
    return matrix - matrix.T


def turned(blocks):
    return WEIGHT @ torch.block_diag(*blocks).T - WEIGHT


@pytest.mark.parametrize("shared", [False, True])
def test_exact_rotations_of_blocks_of_the_input(shared):
    said = {"block": 4, "shared": shared, "terms": 0, "eps": 0.0}
    tensors = stored(OFT, said)
    eye = torch.eye(4)
    blocks = [(eye - k) @ torch.inverse(eye + k) for k in (skew(p, 4) for p in at(tensors, SITE)["weight"])]
    made = block(OFT, said, tensors)
    assert made.variant == TURNED
    assert close(delta(made), turned(blocks * (WEIGHT.shape[1] // 4) if shared else blocks))


@pytest.mark.parametrize(
    ("terms", "powers"),
    [
        (1, {}),
        (2, {1: 2}),
        (3, {1: 2, 2: 2, 3: 1}),
        (4, {1: 2, 2: 2, 3: 1}),
        (5, {1: 2, 2: 2, 3: 2, 4: 1}),
        (7, {1: 2, 2: 2, 3: 2, 4: 2, 5: 2, 6: 1}),
    ],
)
def test_the_series_is_cut_where_peft_cuts_it(terms, powers):
    said = {"block": 4, "shared": False, "terms": terms, "eps": 0.0}
    tensors = stored(OFT, said)
    blocks = [
        torch.eye(4) + sum((c * torch.matrix_power(skew(p, 4), n) for n, c in powers.items()), torch.zeros(4, 4))
        for p in at(tensors, SITE)["weight"]
    ]
    assert close(delta(block(OFT, said, tensors)), turned(blocks))


def test_a_bound_shortens_what_is_longer_and_nothing_else():
    free = {"block": 4, "shared": False, "terms": 0, "eps": 0.0}
    tensors = stored(OFT, free)
    packed = at(tensors, SITE)["weight"]
    lengths = packed.norm(dim=1) * 2**0.5
    bound = float(lengths.median())
    short = packed * (bound / lengths).clamp(max=1)[:, None]
    bounded = block(OFT, {**free, "eps": bound * len(packed) ** 0.5}, tensors)
    assert not close(delta(bounded), delta(block(OFT, free, tensors)))
    assert close(delta(bounded), delta(block(OFT, free, {f"{SITE}/weight": short})))
