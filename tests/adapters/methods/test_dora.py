import torch

from adapters.architectures.sites import Address
from adapters.methods.dora import decompose, stretch
from adapters.methods.fold import fitting_of
from adapters.weights import Folded
from tests.adapters import builders
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

QUERY = Address(0, "attn_q")
FITTING = operands.fitting()
WEIGHT, BIAS = FITTING.weight(QUERY), FITTING.bias(QUERY)


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(HIDDEN, generator=generator) + 0.5, torch.randn(HIDDEN, HIDDEN, generator=generator)


def merged(flavour: str, scaling: float, seed: int) -> torch.Tensor:
    """The adapted matrix itself, as the paper has it (equation 5)."""
    magnitude, update = drawn(seed)
    direction = WEIGHT + update * (scaling if flavour == "peft" else 1.0)
    return magnitude[:, None] * (WEIGHT + scaling * update) / direction.norm(dim=1, keepdim=True)


def test_adapterhubs_flavour_stretches_the_bias_too_and_its_norm_leaves_the_scaling_out():
    magnitude, update = drawn(1)
    x, y = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 1) @ WEIGHT.T + BIAS
    blocks = [Folded("lora", None, decompose("adapterhub", magnitude, update, 3.0, QUERY, FITTING))] * 3
    out = stretch(y + 3.0 * x @ update.T, operands.operand(blocks))
    gain = magnitude / (WEIGHT + update).norm(dim=1)
    assert torch.allclose(out, x @ merged("adapterhub", 3.0, 1).T + gain * BIAS, atol=1e-3)


def test_pefts_flavour_keeps_the_bias_as_it_is():
    x = operands.tokens(HIDDEN, 1)
    y = x @ WEIGHT.T + BIAS
    blocks = [Folded("lora", None, decompose("peft", *drawn(seed), 3.0, QUERY, FITTING)) for seed in (1, 2, 3)]
    deltas = [3.0 * xr @ drawn(owner + 1)[1].T for xr, owner in zip(operands.rows(x), operands.OWNER, strict=True)]
    out = stretch(y + torch.cat(deltas), operands.operand(blocks))
    for got, xr, owner in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, xr @ merged("peft", 3.0, owner + 1).T + BIAS, atol=1e-3)


def test_without_dora_nothing_is_folded_and_the_sum_is_handed_on():
    assert decompose("none", *drawn(1), 3.0, QUERY, FITTING) == {}
    y = operands.tokens(HIDDEN, 1)
    assert stretch(y, operands.operand([Folded("lora", None, {})])) is y


def test_a_checker_without_a_backbone_folds_to_the_same_shapes():
    bare = decompose("peft", *drawn(1), 3.0, QUERY, fitting_of(builders.profile("bert")))
    full = decompose("peft", *drawn(1), 3.0, QUERY, FITTING)
    assert {n: t.shape for n, t in bare.items()} == {n: t.shape for n, t in full.items()}
    assert all(torch.isfinite(t).all() for t in bare.values())
