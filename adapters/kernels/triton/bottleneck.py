"""Bottlenecks at a junction, of all segments, in one launch: base norm, both maps, residual and norm."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from adapters.kernels.cpu import Bottlenecks, Form, Norm
from adapters.kernels.triton.activations import ACTIVATIONS, activated
from adapters.kernels.triton.add_norm import check_norm
from adapters.kernels.triton.checks import check_rows, check_segments, check_shape
from adapters.kernels.triton.products import joined, product
from adapters.kernels.triton.tiles import capacity, height, lanes, parameter, power_of_two, tile_of

WIDEST = 256  # bottlenecks above would not leave a program enough registers
BLOCK = 64  # columns of the hidden width per step


@dataclass(frozen=True)
class Launch:
    """How a launch is laid out; see `launch_of`."""

    widths: int
    warps: int
    stages: int


def fits(width: int, activation: str) -> bool:
    """Whether `bottleneck` takes adapters of this width and activation."""
    return 1 <= width <= WIDEST and activation in ACTIVATIONS


def launch_of(width: int, rows: int) -> Launch:
    """The bottleneck's width in whole tiles of a tensor core, and as many warps as its sums need registers."""
    widths = max(16, power_of_two(width))
    return Launch(widths, 8 if rows * widths > 4096 else 4, 2 if widths > 64 else 3)


def bottleneck(
    f: Tensor,
    r: Tensor | None,
    y: Tensor,
    bounds: Tensor,
    arena: Tensor,
    adapters: Bottlenecks,
    form: Form,
    norm: Norm | None,
) -> None:
    """Bottlenecks at a junction, f, r, y [n, hidden]; y is written for the rows of every segment, and may be f or r.

        x = norm(f + r) | f | r;  u = scaling * (W_u act(W_d x + b_d) + b_u);  out = u + (f | x | f + r | 0)
        y = norm(out + r) if the form closes, else out

    The arguments of `CpuKernels.bottleneck`, with the offsets at multiples of `tiles.ALIGN`.
    Variances are joined block by block; a form that closes computes W_u z twice instead of keeping it. A tile's rows
    pass between L1 and its program four times (twice, where nothing is normed), its weights come from L2, and the
    intermediate values never leave the program. Expected cost on an H200, hidden 768, width 48, bfloat16 (estimated,
    not run): 64 segments of 32 tokens 8 to 10 us, of 128 tokens 12 to 20 us; the norms that it replaces are 3 and 9 us.
    Raises `ValueError`.
    """
    check(f, r, y, form, norm)
    if not fits(adapters.width, form.activation):
        raise ValueError(
            f"one launch takes bottlenecks of widths 1 to {WIDEST} with {', '.join(ACTIVATIONS)}; not of width "
            f"{adapters.width} with {form.activation}"
        )
    segments = check_segments(
        f, bounds, arena, down=adapters.down, down_bias=adapters.down_bias, up=adapters.up, up_bias=adapters.up_bias
    )
    rows = height(len(f), segments, f.dtype)
    launch = launch_of(adapters.width, rows)
    weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
    with torch.no_grad():
        _bottleneck[(capacity(len(f), segments, rows),)](
            f, r, y, bounds, segments, arena, adapters.down, adapters.down_bias, adapters.up,
            adapters.up_bias, weight, bias, f.stride(0), 0 if r is None else r.stride(0), y.stride(0), form.scaling,
            0.0 if norm is None else norm.eps, HIDDEN=f.shape[1], WIDTH=adapters.width, NORMED=norm is not None,
            READS=form.reads, ADDS=form.adds, CLOSES=form.closes, ACTIVATION=ACTIVATIONS[form.activation],
            ROWS=rows, LANES=lanes(segments), WIDTHS=launch.widths, BLOCK=BLOCK, num_warps=launch.warps, num_stages=launch.stages,
        )  # fmt: skip


def check(f: Tensor, r: Tensor | None, y: Tensor, form: Form, norm: Norm | None) -> None:
    """What meets at a junction fits together; raises `ValueError`."""
    check_rows(f, f=f, y=y, **({} if r is None else {"r": r}))
    check_shape("y", y, tuple(f.shape))
    if r is not None:
        check_shape("r", r, tuple(f.shape))
    elif form.reads != "f" or form.adds == "sum" or form.closes:
        raise ValueError(f"a bottleneck of the form {form} needs r")
    if norm is not None:
        check_norm(norm, f.shape[1], f.device)


@triton.jit(do_not_specialize=["segments"])
def _bottleneck(
    f: tl.tensor, r: tl.tensor, y: tl.tensor, bounds: tl.tensor, segments: tl.tensor, arena: tl.tensor, down: tl.tensor,
    down_bias: tl.tensor, up: tl.tensor, up_bias: tl.tensor, weight: tl.tensor, bias: tl.tensor, f_stride: tl.tensor,
    r_stride: tl.tensor, y_stride: tl.tensor, scaling: tl.tensor, eps: tl.tensor, HIDDEN: tl.constexpr,
    WIDTH: tl.constexpr, NORMED: tl.constexpr, READS: tl.constexpr, ADDS: tl.constexpr, CLOSES: tl.constexpr,
    ACTIVATION: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, WIDTHS: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    segment, first, last = tile_of(bounds, segments, 2, ROWS, LANES)
    if segment >= segments:
        return
    rows = first + tl.arange(0, ROWS)
    inside = (rows < last)[:, None]
    rows = rows.to(tl.int64)[:, None]
    f_rows, r_rows = f + rows * f_stride, r
    if r is not None:
        r_rows = r + rows * r_stride
    mean, scale = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
    if READS == "normed" and NORMED:
        mean, scale = _moments(f_rows, r_rows, inside, eps, HIDDEN, ROWS, BLOCK)
    z = tl.zeros((ROWS, WIDTHS), tl.float32)
    narrow, w = tl.arange(0, WIDTHS)[None, :], parameter(arena, down, segment)
    for start in range(0, HIDDEN, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        f_block, r_block = _taken(f_rows, r_rows, columns[None, :], inside, HIDDEN)
        x = _read(f_block, r_block, mean, scale, weight, bias, columns[None, :], HIDDEN, READS, NORMED)
        known = (columns[:, None] < HIDDEN) & (narrow < WIDTH)
        own = tl.load(w + narrow * HIDDEN + columns[:, None], mask=known, other=0.0)
        z += product(x.to(arena.dtype.element_ty), own)
    w = parameter(arena, down_bias, segment)
    z = activated(z + tl.load(w + narrow, mask=narrow < WIDTH, other=0.0).to(tl.float32), ACTIVATION)
    # A token that overflowed must not meet the padding, where infinity times zero would be.
    z = tl.where(narrow < WIDTH, z, 0.0).to(arena.dtype.element_ty)
    w = parameter(arena, up, segment)
    b = parameter(arena, up_bias, segment)
    centre, stretch = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
    if CLOSES and NORMED:
        seen = 0.0
        for start in range(0, HIDDEN, BLOCK):
            columns = start + tl.arange(0, BLOCK)[None, :]
            out = _out(z, w, b, f_rows, r_rows, columns, inside, mean, scale, weight, bias, scaling, HIDDEN, WIDTH,
                       WIDTHS, READS, NORMED, ADDS, CLOSES)  # fmt: skip
            seen, centre, stretch = joined(out, columns < HIDDEN, seen, centre, stretch)
        stretch = 1.0 / tl.sqrt(stretch / HIDDEN + eps)
    for start in range(0, HIDDEN, BLOCK):
        columns = start + tl.arange(0, BLOCK)[None, :]
        out = _out(z, w, b, f_rows, r_rows, columns, inside, mean, scale, weight, bias, scaling, HIDDEN, WIDTH,
                   WIDTHS, READS, NORMED, ADDS, CLOSES)  # fmt: skip
        if CLOSES and NORMED:
            out = _normed(out, centre, stretch, weight, bias, columns, HIDDEN)
        tl.store(y + rows * y_stride + columns, out.to(y.dtype.element_ty), mask=inside & (columns < HIDDEN))


@triton.jit
def _out(
    z: tl.tensor, up: tl.tensor, up_bias: tl.tensor, f_rows: tl.tensor, r_rows: tl.tensor, columns: tl.tensor,
    inside: tl.tensor, mean: tl.tensor, scale: tl.tensor, weight: tl.tensor, bias: tl.tensor, scaling: tl.tensor,
    HIDDEN: tl.constexpr, WIDTH: tl.constexpr, WIDTHS: tl.constexpr, READS: tl.constexpr, NORMED: tl.constexpr,
    ADDS: tl.constexpr, CLOSES: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """A block of u and what is added to it, before the norm that closes."""
    narrow = tl.arange(0, WIDTHS)[:, None]
    known = (narrow < WIDTH) & (columns < HIDDEN)
    u = product(z, tl.load(up + columns * WIDTH + narrow, mask=known, other=0.0))
    u = scaling * (u + tl.load(up_bias + columns, mask=columns < HIDDEN, other=0.0).to(tl.float32))
    f_block, r_block = _taken(f_rows, r_rows, columns, inside, HIDDEN)
    if ADDS == "f":
        u += f_block
    elif ADDS == "sum":
        u += f_block + r_block
    elif ADDS == "x":
        u += _read(f_block, r_block, mean, scale, weight, bias, columns, HIDDEN, READS, NORMED)
    if CLOSES:
        u += r_block
    return u


@triton.jit
def _moments(
    f_rows: tl.tensor, r_rows: tl.tensor, inside: tl.tensor, eps: tl.tensor, HIDDEN: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """Mean and 1 / deviation of the rows of f + r, both [ROWS]."""
    seen, mean, spread = 0.0, tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS,), tl.float32)
    for start in range(0, HIDDEN, BLOCK):
        columns = start + tl.arange(0, BLOCK)[None, :]
        f_block, r_block = _taken(f_rows, r_rows, columns, inside, HIDDEN)
        seen, mean, spread = joined(f_block + r_block, columns < HIDDEN, seen, mean, spread)
    return mean, 1.0 / tl.sqrt(spread / HIDDEN + eps)


@triton.jit
def _taken(
    f_rows: tl.tensor, r_rows: tl.tensor, columns: tl.tensor, inside: tl.tensor, HIDDEN: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """A block of f and of r in float32; without r, zeros."""
    f_block = tl.load(f_rows + columns, mask=inside & (columns < HIDDEN), other=0.0).to(tl.float32)
    if r_rows is not None:
        r_block = tl.load(r_rows + columns, mask=inside & (columns < HIDDEN), other=0.0).to(tl.float32)
    else:
        r_block = tl.zeros_like(f_block)
    return f_block, r_block


@triton.jit
def _read(
    f_block: tl.tensor, r_block: tl.tensor, mean: tl.tensor, scale: tl.tensor, weight: tl.tensor, bias: tl.tensor,
    columns: tl.tensor, HIDDEN: tl.constexpr, READS: tl.constexpr, NORMED: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """A block of what the adapters read."""
    x = f_block
    if READS == "r":
        x = r_block
    elif READS == "normed":
        x = f_block + r_block
        if NORMED:
            x = _normed(x, mean, scale, weight, bias, columns, HIDDEN)
    return x


@triton.jit
def _normed(
    x: tl.tensor, mean: tl.tensor, scale: tl.tensor, weight: tl.tensor, bias: tl.tensor, columns: tl.tensor,
    HIDDEN: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """A block of the norm of rows whose mean and 1 / deviation are known; zero where there is no column."""
    out = tl.where(columns < HIDDEN, (x - mean[:, None]) * scale[:, None], 0.0)
    if weight is not None:
        out *= tl.load(weight + columns, mask=columns < HIDDEN, other=0.0)
    if bias is not None:
        out += tl.load(bias + columns, mask=columns < HIDDEN, other=0.0)
    return out
