import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.fold import fitting_of
from adapters.methods.ia3 import IA3, reference
from tests.adapters import builders
from tests.adapters.builders import HIDDEN, PARTS
from tests.adapters.methods import operands


@pytest.mark.parametrize(
    ("case", "address", "wide", "out"),
    [("ia3", Address(0, "ffn_in"), HIDDEN, 48), ("ia3_input", Address(1, "ffn_out"), 48, HIDDEN)],
)
def test_equals_the_reference_of_every_row(case, address, wide, out):
    blocks = operands.folded(PARTS[case], address, (1, 2, 3))
    generator = torch.Generator().manual_seed(3)
    weight, bias = torch.randn(out, wide, generator=generator), torch.randn(out, generator=generator)
    x = operands.tokens(wide, 1)
    _, y = IA3.linear(x, x @ weight.T + bias, weight, operands.operand(blocks))
    for got, xr, segment in zip(operands.rows(y), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, reference(blocks[segment], xr, weight, bias), atol=1e-4)


def test_stacked_vectors_multiply():
    low, top = (operands.folded(PARTS["ia3"], Address(0, "attn_k"), seeds) for seeds in ((1, 2, 3), (4, 5, 6)))
    x, y = operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2)
    x1, y1 = IA3.linear(x, y, torch.zeros(HIDDEN, HIDDEN), operands.operand(low, final=False))
    _, y2 = IA3.linear(x1, y1, torch.zeros(HIDDEN, HIDDEN), operands.operand(top))
    assert torch.allclose(y2[:5], y[:5] * low[0].tensors["scale"] * top[0].tensors["scale"], atol=1e-5)


def test_the_constant_factor_is_folded_in():
    package = builders.package("bert", [PARTS["ia3"]])
    block = IA3.fold(PARTS["ia3"].config, package.tensors, fitting_of(builders.profile("bert")))[Address(0, "attn_k")]
    assert torch.allclose(block.tensors["scale"], package.tensors["0/attn_k/scale"] * 1.3)


def test_an_unknown_side_is_refused():
    config = {"sites": {"0/attn_k": {"at": "both"}}}
    with pytest.raises(Misfit, match="'output' or 'input'"):
        IA3.shapes(config, fitting_of(builders.profile("bert")))
