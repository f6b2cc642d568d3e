"""Low-rank updates of all segments in one launch, whatever the ranks, as long as one rank class holds them."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from adapters.kernels.triton.checks import check_rows, check_segments
from adapters.kernels.triton.products import product
from adapters.kernels.triton.tiles import PROGRAMS, capacity, height, lanes, parameter, parts, power_of_two, tile_of

WIDEST = 256  # ranks above would not leave a program enough registers
INNER = 64  # of x, per step of the first product
COLUMNS = 64  # of y, per step of the second product


def fits(rank: int) -> bool:
    """Whether `low_rank` takes adapters of a rank class."""
    return 1 <= rank <= WIDEST


def low_rank(
    x: Tensor, y: Tensor, bounds: Tensor, arena: Tensor, down: Tensor, up: Tensor, rank: int, bias: Tensor | None = None
) -> None:
    """y += B (A x) + b for the rows of every segment with its own A [rank, in], B [out, rank] and b [out].

    Arguments as for `segmented.linear`. Adapters of lower ranks than `rank` are padded with zeros, as folding does it,
    and so share the launch. A x is rounded to the storage type between the two products, and never leaves its program.
    Expected cost: one launch; x is read once per share of y's columns, A and B once per tile of rows. Raises
    `ValueError`.
    """
    check_rows(x, x=x, y=y)
    segments = check_segments(x, bounds, arena, down=down, up=up, bias=bias)
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows, but y has {len(y)}")
    if not fits(rank):
        raise ValueError(f"one launch takes ranks from 1 to {WIDEST}, not {rank}")
    wide, out = x.shape[1], y.shape[1]
    rows = height(len(x), segments, x.dtype)
    tiles = capacity(len(x), segments, rows)
    share = share_of(out, tiles)
    with torch.no_grad():
        _low_rank[(tiles, parts(out, share))](
            x, y, bounds, segments, arena, down, up, bias, x.stride(0), y.stride(0),
            WIDE=wide, OUT=out, RANK=rank, RANKS=max(16, power_of_two(rank)), SHARE=share,
            ROWS=rows, LANES=lanes(segments), INNER=INNER, COLUMNS=COLUMNS, num_warps=4, num_stages=2,
        )  # fmt: skip


def share_of(out: int, tiles: int) -> int:
    """Columns of y per program: all, where tiles alone fill the device; else a part, which costs A x once more each."""
    shares = min(parts(PROGRAMS, tiles), parts(out, COLUMNS))
    return COLUMNS * parts(parts(out, shares), COLUMNS)


@triton.jit(do_not_specialize=["segments"])
def _low_rank(
    x: tl.tensor,
    y: tl.tensor,
    bounds: tl.tensor,
    segments: tl.tensor,
    arena: tl.tensor,
    down: tl.tensor,
    up: tl.tensor,
    bias: tl.tensor,
    x_stride: tl.tensor,
    y_stride: tl.tensor,
    WIDE: tl.constexpr,
    OUT: tl.constexpr,
    RANK: tl.constexpr,
    RANKS: tl.constexpr,
    SHARE: tl.constexpr,
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
    ranks = tl.arange(0, RANKS)
    a_held = parameter(arena, down, segment)
    b_held = parameter(arena, up, segment)
    narrow = tl.zeros((ROWS, RANKS), tl.float32)
    for start in range(0, WIDE, INNER):
        along = start + tl.arange(0, INNER)
        known = along[None, :] < WIDE
        a = tl.load(x + rows * x_stride + along[None, :], mask=inside & known, other=0.0)
        own = (along[:, None] < WIDE) & (ranks[None, :] < RANK)
        narrow += product(a, tl.load(a_held + ranks[None, :] * WIDE + along[:, None], mask=own, other=0.0))
    # A token that overflowed must not meet the padding, where infinity times zero would be.
    middle = tl.where(ranks[None, :] < RANK, narrow, 0.0).to(arena.dtype.element_ty)
    share = tl.program_id(1) * SHARE
    for start in range(0, SHARE, COLUMNS):
        columns = share + start + tl.arange(0, COLUMNS)[None, :]
        own = (ranks[:, None] < RANK) & (columns < OUT)
        total = product(middle, tl.load(b_held + columns * RANK + ranks[:, None], mask=own, other=0.0))
        if bias is not None:
            added = parameter(arena, bias, segment)
            total += tl.load(added + columns, mask=columns < OUT, other=0.0).to(tl.float32)
        target = y + rows * y_stride + columns
        written = inside & (columns < OUT)
        total += tl.load(target, mask=written, other=0.0).to(tl.float32)
        tl.store(target, total.to(y.dtype.element_ty), mask=written)
