"""Dense linear maps on the quickest path that this machine has; the same arithmetic everywhere.

torch multiplies fp32 on the CPU with MKL, which takes a slow path on processors that are not Intel's: there oneDNN,
which torch carries as well, needs about half of the time (measured: AMD EPYC, 900 tokens, widths 384 and 1536). Its
operator has no gradient, so training keeps torch's own. A frozen map is laid out for it once: that saves a third of
the time of a few tokens, and a twentieth of that of many.
"""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional
from transformers.activations import ACT2FN

SMALLEST = 1 << 20  # multiply-adds below which the call itself costs more than the faster kernel saves
# Activations that the operator applies to its sums, before they are rounded: (its name for it, its algorithm).
_APPLIED: Mapping[str, tuple[str, str]] = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "swish": ("swish", ""),
    "tanh": ("tanh", ""),
    "sigmoid": ("sigmoid", ""),
}


class FrozenMap:
    """W x + b that never changes, W [out, in] and b [out]; laid out at its first use without gradients."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """act(W x + b) for x [..., in]; activations are named as in transformers."""
        applied = _APPLIED.get(activation)
        if applied is None or torch.is_grad_enabled() or not _onednn(x, self.weight):
            return activated(functional.linear(x, self.weight, self.bias), activation)
        return _pointwise(x, self._laid_out, self.bias, *applied)

    @cached_property
    def _laid_out(self) -> Tensor:
        held: Tensor = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())  # noqa: SLF001 - no public door
        return held


def dense(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b for x [..., in], W [out, in] and b [out]."""
    if torch.is_grad_enabled() or not _onednn(x, weight):
        return functional.linear(x, weight, bias)
    return _pointwise(x, weight, bias, "none", "")


def activated(x: Tensor, activation: str) -> Tensor:
    """An activation of transformers by its name, or `none`."""
    if activation == "none":
        return x
    found: Tensor = ACT2FN[activation](x)
    return found


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, name: str, algorithm: str) -> Tensor:
    mapped: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)  # noqa: SLF001 - no public door
    return mapped


def _onednn(x: Tensor, weight: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype is not weight.dtype or x.numel() * weight.shape[0] < SMALLEST:
        return False
    if x.dtype is torch.bfloat16:
        return _multiplies_bfloat16()
    return x.dtype is torch.float32 and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def _multiplies_bfloat16() -> bool:
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - no public door
    return supported and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
