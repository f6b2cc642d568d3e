"""The frozen norm behind a residual, or in front of a sublayer."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor
from torch.nn import functional

from adapters.kernels.cpu import Norm
from adapters.kernels.interface import Kernels


@dataclass(frozen=True, eq=False)
class FrozenNorm:
    """Layer normalisation with a weight and a bias [width] that never change.

    `rms`: by the root of the mean square instead, in float32 (Zhang and Sennrich 2019, arXiv:1910.07467).
    """

    weight: Tensor
    bias: Tensor | None
    eps: float
    rms: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """x [..., width] normalised over its last dimension."""
        if self.rms:
            return self.weight * self.bare(x)
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def bare(self, x: Tensor) -> Tensor:
        """x [..., width] normalised, before the weight and the bias."""
        if self.rms:
            return functional.rms_norm(x.float(), self.weight.shape, eps=self.eps).to(x.dtype)
        return functional.layer_norm(x, self.weight.shape, eps=self.eps)

    def of_sum(self, f: Tensor, r: Tensor, kernels: Kernels | None) -> Tensor:
        """norm(f + r) of f and r [n, width], without gradients."""
        return (
            self(f + r)
            if self.rms or kernels is None or f.dtype not in kernels.dtypes
            else kernels.add_norm(f, r, self.wide)
        )

    @cached_property
    def wide(self) -> Norm:
        """The norm as kernels take it: in float32."""
        return Norm(self.weight.float(), None if self.bias is None else self.bias.float(), self.eps)


def wide(norm: FrozenNorm | None) -> Norm | None:
    """A norm as kernels take it."""
    return None if norm is None else norm.wide
