"""One linear map per segment, each with its own weights out of one arena, in one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from adapters.kernels.triton.checks import check_rows, check_segments
from adapters.kernels.triton.products import product
from adapters.kernels.triton.tiles import capacity, height, lanes, parameter, parts, tile_of

COLUMNS = 64  # of y, per program
INNER = 64  # of x, per step of the sum


def linear(
    x: Tensor,
    y: Tensor,
    bounds: Tensor,
    arena: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    accumulate: bool = False,
) -> None:
    """y = W x + b, or y += W x + b, for the rows of every segment with its own W [out, in] and b [out].

    x [n, in], y [n, out] (written in place, and must not overlap x; rows outside of all segments stay). bounds: int32
    [S, 2], first row and one past the last; segments may lie in any order and be empty, and share no row. weight, bias:
    int64 [S], where each begins in the arena, in elements, at a multiple of `tiles.ALIGN`. What bounds and offsets hold
    is on the device, and is not checked. Expected cost: the launch (about 4 us outside of a graph), or W once per tile
    of rows from L2 where that is more. Raises `ValueError`.
    """
    check_rows(x, x=x, y=y)
    segments = check_segments(x, bounds, arena, weight=weight, bias=bias)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows, but y has {len(y)}")
    wide, out = x.shape[1], y.shape[1]
    rows = height(len(x), segments, x.dtype)
    with torch.no_grad():
        _linear[(capacity(len(x), segments, rows), parts(out, COLUMNS))](
            x, y, bounds, segments, arena, weight, bias, x.stride(0), y.stride(0),
            WIDE=wide, OUT=out, ACCUMULATE=accumulate, ROWS=rows, LANES=lanes(segments), INNER=INNER, COLUMNS=COLUMNS,
            num_warps=4, num_stages=3,
        )  # fmt: skip


@triton.jit(do_not_specialize=["segments"])
def _linear(
    x: tl.tensor,
    y: tl.tensor,
    bounds: tl.tensor,
    segments: tl.tensor,
    arena: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    x_stride: tl.tensor,
    y_stride: tl.tensor,
    WIDE: tl.constexpr,
    OUT: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    INNER: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    segment, first, last = tile_of(bounds, segments, 2, ROWS, LANES)
    if segment >= segments:
        return
    rows = first + tl.arange(0, ROWS)
    inside = (rows < last)[:, None]
    rows = rows.to(tl.int64)[:, None]
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    held = parameter(arena, weight, segment)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, WIDE, INNER):
        along = start + tl.arange(0, INNER)
        a = tl.load(x + rows * x_stride + along[None, :], mask=inside & (along[None, :] < WIDE), other=0.0)
        known = (along[:, None] < WIDE) & (columns < OUT)
        b = tl.load(held + columns * WIDE + along[:, None], mask=known, other=0.0)
        total += product(a, b)
    if bias is not None:
        own = parameter(arena, bias, segment)
        total += tl.load(own + columns, mask=columns < OUT, other=0.0).to(tl.float32)
    target = y + rows * y_stride + columns
    written = inside & (columns < OUT)
    if ACCUMULATE:
        total += tl.load(target, mask=written, other=0.0).to(tl.float32)
    tl.store(target, total.to(y.dtype.element_ty), mask=written)
