import pytest
import torch

from adapters.architectures.sites import Address
from adapters.methods.fold import fitting_of
from adapters.methods.lora import LORA, rank_class, reference
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands

QUERY = Address(0, "attn_q")


@pytest.mark.parametrize("case", ["lora_qv", "lora_all"])
def test_equals_the_reference_of_every_row(case):
    blocks = operands.folded(PARTS[case], QUERY, (1, 2, 3))
    x, y = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    _, out = LORA.linear(x, y, torch.zeros(HIDDEN, HIDDEN), operands.operand(blocks))
    for got, xr, yr, segment in zip(
        operands.rows(out), operands.rows(x), operands.rows(y), operands.OWNER, strict=True
    ):
        assert torch.allclose(got, reference(blocks[segment], xr, yr), atol=1e-5)


def test_a_stack_chains_the_deltas_and_adds_the_last_alone():
    low, top = (operands.folded(PARTS["lora_qv"], QUERY, seeds) for seeds in ((1, 2, 3), (4, 5, 6)))
    x, y = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    delta, same = LORA.linear(x, y, torch.zeros(HIDDEN, HIDDEN), operands.operand(low, final=False))
    assert same is y
    _, out = LORA.linear(delta, y, torch.zeros(HIDDEN, HIDDEN), operands.operand(top))
    a, b = low[0].tensors, top[0].tensors
    chained = x[:5] @ a["down"].T @ a["up"].T @ b["down"].T @ b["up"].T
    assert torch.allclose(out[:5], y[:5] + chained, atol=1e-5)


def test_folding_merges_the_scaling_and_pads_the_rank_without_changing_the_map():
    package = builders.package("bert", [builders.lora(rank=3)])
    fitting = fitting_of(builders.profile("bert"))
    block = LORA.fold(package.manifest.parts[0].config, package.tensors, fitting)[QUERY]
    assert block.tensors["down"].shape == (8, HIDDEN)
    a, b = package.tensors["0/attn_q/lora_A"], package.tensors["0/attn_q/lora_B"]
    assert torch.allclose(block.tensors["up"] @ block.tensors["down"], 1.7 * b @ a, atol=1e-6)


@pytest.mark.parametrize(("rank", "held"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128), (129, 192)])
def test_rank_classes(rank, held):
    assert rank_class(rank) == held
