"""One dense linear map on the quickest path that this machine has; the same arithmetic everywhere.

torch multiplies fp32 on the CPU with MKL, which takes a slow path on processors that are not Intel's: there oneDNN,
which torch carries as well, needs about half of the time (measured: AMD EPYC, 900 tokens, widths 384 and 1536). Its
operator has no gradient, so training keeps torch's own.
"""

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 1 << 20  # multiply-adds below which the call itself costs more than the faster kernel saves


def dense(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W x + b for x [..., in], W [out, in] and b [out]."""
    if torch.is_grad_enabled() or not _onednn(x, weight):
        return functional.linear(x, weight, bias)
    mapped: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001 - no public door
    return mapped


def _onednn(x: Tensor, weight: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype is torch.float32 and weight.dtype is torch.float32
    return plain and x.numel() * weight.shape[0] >= SMALLEST and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
