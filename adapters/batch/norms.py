"""Running a program in the place of a norm, for the rows whose adapters have one of their own."""

from torch import Tensor

from adapters.batch.program import Program, flat_steps
from adapters.kernels.norms import FrozenNorm
from adapters.methods.table import NORM


def run_norm(program: Program, x: Tensor, y: Tensor, norm: FrozenNorm) -> Tensor:
    """The norm's output [tokens, width], or [tokens, heads, width]: y = norm(x) with the rows of the program replaced."""
    for item in flat_steps(program):
        y = item.runs.put(y, NORM[item.method].normalise(item.runs.take(x), norm, item.operand).to(y.dtype))
    return y
