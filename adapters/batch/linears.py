"""Running a program at a linear map: a state per token passes along a row's chain; its last adapter applies it.

The adapters of a sum pass nothing on: each changes the output that the one before it left, as PEFT runs them.
"""

import torch
from torch import Tensor

from adapters.batch.program import Branch, Program, Step
from adapters.methods.table import LINEAR


def run_linear(program: Program, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The map's output [tokens, out]: y = W x + b with the rows of the program replaced. x is [tokens, in]."""
    h: Tensor | None = None
    for item in program:
        fresh = item.first or (isinstance(item, Step) and item.apart)
        if isinstance(item, Step) and fresh and item.leaves and LINEAR[item.method].settle(x, y, item.operand):
            continue
        before = None if fresh or h is None else item.runs.take(h)
        own = item.runs.take(x)
        state = _state(item, before, own, weight)
        if item.leaves:
            name, operand = (item.method, item.operand) if isinstance(item, Step) else item.leads
            y = item.runs.put(y, LINEAR[name].apply(state, item.runs.take(y), own, weight, operand))
        else:
            h = item.runs.put(torch.zeros_like(y) if h is None else h, state.contiguous())  # a state may be a view
    return y


def run_part(program: Program, x: Tensor, y: Tensor, weight: Tensor, index: int) -> Tensor:
    """The output [tokens, wide] of a map that several sites share, with the program run at one of them.

    weight [out, in] is the site's own, whose columns of y begin at `index * out`; without gradients they are written.
    """
    width = len(weight)
    own = y.narrow(1, index * width, width)
    if torch.is_grad_enabled():
        made = run_linear(program, x, own.contiguous(), weight)
        return torch.cat([y[:, : index * width], made, y[:, (index + 1) * width :]], dim=1)
    made = run_linear(program, x, own, weight)
    if made is not own:
        own.copy_(made)
    return y


def _state(item: Step | Branch, before: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
    """The running state [n, out] after one item."""
    if isinstance(item, Step):
        return LINEAR[item.method].change(before, x, weight, item.operand)
    inputs = x[item.spread]
    start = None if before is None else before[item.spread]
    states = start if start is not None else weight.new_zeros(len(item.spread), weight.shape[0], device=x.device)
    for inner in item.program:
        came = inner.runs.take(states) if start is not None or not inner.first else None
        states = inner.runs.put(states, _state(inner, came, inner.runs.take(inputs), weight).contiguous())
    return item.combine(states)
