"""DoRA: Liu et al. 2024 (arXiv:2402.09353): the adapted map's rows get a learned length, and keep their direction.

    adapterhub: y' = gain * (W x + b + delta)        gain = m / ||W + B A||       (b is stretched too, BA is unscaled)
    peft:       y' = gain * (W x + delta) + b        gain = m / ||W + s B A||

Norms are those of a row of the matrix, one per output channel. They depend on frozen weights alone, so the gain is
folded once; PEFT's flavour becomes AdapterHub's form with a shift: y' = gain * (y + delta) + (1 - gain) * b.
"""

from torch import Tensor
from torch.linalg import vector_norm

from adapters.architectures.sites import Address
from adapters.kernels.ragged import spread
from adapters.methods.base import Fitting, Operand

MAGNITUDE = "magnitude"
GAIN, SHIFT = "gain", "shift"
FLAVOURS = ("none", "adapterhub", "peft")


def decompose(
    flavour: str, magnitude: Tensor, update: Tensor, scaling: float, address: Address, fitting: Fitting
) -> dict[str, Tensor]:
    """The folded gain [out], and PEFT's shift [out], from m [out] and BA [out, in]; nothing where there is no DoRA."""
    if flavour == "none":
        return {}
    weight = fitting.weight(address).to(update)
    if flavour == "adapterhub":
        return {GAIN: magnitude / vector_norm(weight + update, dim=1)}
    gain = magnitude / vector_norm(weight + scaling * update, dim=1)
    return {GAIN: gain, SHIFT: (1 - gain) * fitting.bias(address).to(update)}


def stretch(y: Tensor, operand: Operand) -> Tensor:
    """The output of the sum y [n, out] of map and delta; y itself where the adapters have no DoRA."""
    gain, shift = operand.params.get(GAIN), operand.params.get(SHIFT)
    if gain is None:
        return y
    y = y * spread(gain, operand.runs)
    return y if shift is None else y + spread(shift, operand.runs)
