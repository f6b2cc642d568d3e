"""Trying a compiled library before it is used: one small case of every kernel against torch."""

import torch
from torch import Tensor
from torch.nn import functional

from adapters.kernels.cpu import Bottlenecks, CpuKernels, Form, Norm

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 0.05}  # how far an answer may lie from torch's, of the answer's size


def wrong_storage(kernels: CpuKernels, dtype: torch.dtype) -> str | None:
    """Why the kernels are not to be used with tensors of this type; None where they agree with torch."""
    generator = torch.Generator().manual_seed(0)
    for kernel in (_attention, _activate, _add_norm, _linear, _low_rank, _bottleneck):
        try:
            got, expected = kernel(kernels, dtype, generator)
        except (RuntimeError, ValueError, MemoryError) as error:
            return f"{kernel.__name__[1:]} fails: {error}"
        apart = ((got.double() - expected).abs().max() / expected.abs().max()).item()
        if not apart <= CLOSE[dtype]:
            return f"{kernel.__name__[1:]} is {apart:.1e} away from torch"
    return None


def _attention(kernels: CpuKernels, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    qkv = torch.randn(21, 3, 2, 24, generator=generator).to(dtype)
    starts = torch.tensor([0, 19, 21], dtype=torch.int32)
    got = kernels.attention(qkv[:, 0], qkv[:, 1], qkv[:, 2], starts, 0.3)
    pieces = [p.double().permute(1, 2, 0, 3) for p in torch.split(qkv, [19, 2])]
    expected = [functional.scaled_dot_product_attention(p[0], p[1], p[2], scale=0.3) for p in pieces]
    return got, torch.cat([p.transpose(0, 1).flatten(1) for p in expected])


def _activate(kernels: CpuKernels, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(5, 37, generator=generator).to(dtype)
    expected = functional.gelu(x.double())
    kernels.activate(x, "gelu")
    return x, expected


def _add_norm(kernels: CpuKernels, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    f, r = (torch.randn(5, 37, generator=generator).to(dtype) for _ in range(2))
    weight, bias = torch.randn(2, 37, generator=generator)
    expected = functional.layer_norm((f + r.double()), (37,), weight.double(), bias.double(), 1e-5)
    return kernels.add_norm(f, r, Norm(weight, bias, 1e-5)), expected


def _linear(kernels: CpuKernels, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, weight, bias = _drawn(dtype, generator, (21, 40), (24, 40), (24,))
    y = torch.empty(21, 24, dtype=dtype)
    arena, bounds, offsets = _laid_out(weight, bias)
    kernels.linear(x, y, bounds, arena, *offsets)
    return y, functional.linear(x.double(), weight.double(), bias.double())


def _low_rank(kernels: CpuKernels, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y, down, up = _drawn(dtype, generator, (21, 40), (21, 24), (8, 40), (24, 8))
    expected = y.double() + x.double() @ down.double().T @ up.double().T
    arena, bounds, (at_down, at_up) = _laid_out(down, up)
    kernels.low_rank(x, y, bounds, arena, at_down, at_up, rank=8)
    return y, expected


def _bottleneck(kernels: CpuKernels, dtype: torch.dtype, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    f, r, *held = _drawn(dtype, generator, (21, 40), (21, 40), (12, 40), (12,), (40, 12), (40,))
    weight, bias = torch.randn(2, 40, generator=generator)
    arena, bounds, offsets = _laid_out(*held)
    y = torch.empty_like(f)
    form = Form(reads="normed", adds="f", closes=True, activation="gelu", scaling=0.7)
    kernels.bottleneck(f, r, y, bounds, arena, Bottlenecks(12, *offsets), form, Norm(weight, bias, 1e-5))
    down, down_bias, up, up_bias = (t.double() for t in held)
    wide = [f.double(), r.double()]
    x = functional.layer_norm(wide[0] + wide[1], (40,), weight.double(), bias.double(), 1e-5)
    u = functional.linear(functional.gelu(functional.linear(x, down, down_bias)), up, up_bias) * form.scaling
    return y, functional.layer_norm(u + wide[0] + wide[1], (40,), weight.double(), bias.double(), 1e-5)


def _drawn(dtype: torch.dtype, generator: torch.Generator, *shapes: tuple[int, ...]) -> list[Tensor]:
    return [(torch.randn(shape, generator=generator) * shape[-1] ** -0.5).to(dtype) for shape in shapes]


def _laid_out(*tensors: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """One segment of 21 rows: (arena, bounds, offsets)."""
    starts = torch.tensor([0, *(t.numel() for t in tensors)]).cumsum(0)
    arena = torch.cat([t.flatten() for t in tensors])
    return arena, torch.tensor([[0, 21]], dtype=torch.int32), [starts[i : i + 1] for i in range(len(tensors))]
