"""The frozen norm of a sum, read once and written once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from adapters.kernels.cpu import Norm
from adapters.kernels.triton.checks import check_rows, check_shape
from adapters.kernels.triton.tiles import parts, power_of_two

WIDEST = 8192  # a row lies in one program's registers
HELD = 4096  # elements of a program, at the most, where it takes several rows


def add_norm(f: Tensor, r: Tensor | None, norm: Norm) -> Tensor:
    """norm(f + r), or norm(f) where r is None: [n, width] -> [n, width]; sums and the norm are float32.

    Expected cost: one launch, or the bytes of f, r and the result at the device's bandwidth (8,192 tokens of 768 in
    bfloat16: 9 us at 4.3 TB/s). Raises `ValueError`.
    """
    count, width = f.shape
    check_rows(f, f=f, **({} if r is None else {"r": r}))
    if r is not None:
        check_shape("r", r, (count, width))
    check_norm(norm, width, f.device)
    if width > WIDEST:
        raise ValueError(f"rows of {width} are wider than {WIDEST}")
    block = power_of_two(width)
    rows = max(1, min(8, HELD // block))
    y = torch.empty((count, width), dtype=f.dtype, device=f.device)
    if count:
        with torch.no_grad():
            _add_norm[(parts(count, rows),)](
                f, r, y, norm.weight, norm.bias, count, f.stride(0), 0 if r is None else r.stride(0), norm.eps,
                WIDTH=width, BLOCK=block, ROWS=rows, num_warps=4,
            )  # fmt: skip
    return y


def check_norm(norm: Norm, width: int, device: torch.device) -> None:
    """Weight and bias are float32 [width] on a device, where they are there; raises `ValueError`."""
    for name, held in (("weight", norm.weight), ("bias", norm.bias)):
        if held is None:
            continue
        check_shape(f"the norm's {name}", held, (width,))
        if held.dtype != torch.float32 or held.device != device or not held.is_contiguous():
            raise ValueError(f"the norm's {name} must be float32 on {device}, not {held.dtype} on {held.device}")


@triton.jit(do_not_specialize=["count"])
def _add_norm(
    f: tl.tensor,
    r: tl.tensor,
    y: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    count: tl.tensor,
    f_stride: tl.tensor,
    r_stride: tl.tensor,
    eps: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None].to(tl.int64)
    columns = tl.arange(0, BLOCK)[None, :]
    inside = (rows < count) & (columns < WIDTH)
    x = tl.load(f + rows * f_stride + columns, mask=inside, other=0.0).to(tl.float32)
    if r is not None:
        x += tl.load(r + rows * r_stride + columns, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(x, 1) / WIDTH
    away = tl.where(columns < WIDTH, x - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(away * away, 1) / WIDTH + eps)
    out = away * scale[:, None]
    if weight is not None:
        out *= tl.load(weight + columns, mask=columns < WIDTH, other=0.0)
    if bias is not None:
        out += tl.load(bias + columns, mask=columns < WIDTH, other=0.0)
    tl.store(y + rows * WIDTH + columns, out.to(y.dtype.element_ty), mask=inside)
