"""The gate of an adapter at a linear map, as AdapterHub has it for UniPELT (Mao et al. 2022, arXiv:2110.07577).

    g = mean over the row's tokens of sigmoid(W_g x + b_g)      it takes the place of the constant scaling

x is always the map's own input, also in a stack, where the adapter itself changes another's state.
"""

from torch import Tensor

from adapters.kernels.ragged import enter, row_mean
from adapters.methods.base import Operand, Shapes

WEIGHT, BIAS = "gate.weight", "gate.bias"


def gate_shapes(wide: int) -> Shapes:
    """The stored tensors of a gate over inputs of a width."""
    return {WEIGHT: (1, wide), BIAS: (1,)}


def row_gate(x: Tensor, operand: Operand) -> Tensor:
    """Each token's g, which its whole row shares: [n, 1] from the map's input x [n, in]."""
    weight, bias = operand.params[WEIGHT], operand.params[BIAS]
    opened = enter(x, operand.runs, ((weight.shape[1], 1),)).linear(weight, bias).map(Tensor.sigmoid).leave()
    return row_mean(opened, operand.runs).index_select(0, operand.runs.row_of_token)
