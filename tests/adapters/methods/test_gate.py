import torch

from adapters.methods.gate import BIAS, WEIGHT, gate_shapes, row_gate
from adapters.weights import Folded
from tests.adapters.methods import operands

WIDE = 9


def gates() -> list[Folded]:
    generator = torch.Generator().manual_seed(5)
    shapes = gate_shapes(WIDE)
    return [Folded("any", None, {n: torch.randn(s, generator=generator) for n, s in shapes.items()}) for _ in range(3)]


def test_every_token_has_the_mean_of_its_own_row_under_its_own_adapter():
    x, blocks = operands.tokens(WIDE, 3), gates()
    got = row_gate(x, operands.operand(blocks))
    assert got.shape == (operands.TOKENS, 1)
    for g, xr, segment in zip(operands.rows(got), operands.rows(x), operands.OWNER, strict=True):
        held = blocks[segment].tensors
        assert torch.allclose(g, torch.sigmoid(xr @ held[WEIGHT].T + held[BIAS]).mean().expand_as(g), atol=1e-6)


def test_a_row_of_nan_opens_no_other_rows_gate():
    x = operands.tokens(WIDE, 3)
    before = row_gate(x, operands.operand(gates()))
    x[slice(*operands.ROWS[1])] = float("nan")
    after = row_gate(x, operands.operand(gates()))
    for i, (one, other) in enumerate(zip(operands.rows(before), operands.rows(after), strict=True)):
        assert bool(other.isnan().all()) if i == 1 else torch.equal(one, other)
