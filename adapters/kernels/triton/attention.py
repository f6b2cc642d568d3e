"""Attention of packed rows, each by itself, with prefixes where they lie: nothing is padded, copied or masked out.

torch's own attention for packed rows wants the longest row's length on the host, no float32, and keys and values with
the prefixes among them, which would be a copy of both in every layer.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from adapters.kernels.triton.checks import STORAGE
from adapters.kernels.triton.products import product
from adapters.kernels.triton.tiles import HEIGHTS, capacity, lanes, parts, power_of_two, tile_of
from adapters.kernels.upload import upload

WIDEST = 256  # heads above would not leave a program enough registers
KEYS = 64  # per step
LOG2_E = 1.4426950408889634  # the softmax is taken to the base of two, which is what the hardware has


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: Tensor,
    scaling: float,
    *,
    window: int | None = None,
    prefixes: Mapping[int, Tensor] | None = None,
    causal: bool = False,
) -> Tensor:
    """softmax(scaling q kᵀ) v of every row by itself: q [tokens, heads, width] -> [tokens, heads * width].

    k, v [tokens, key heads, width]: as many heads of queries share each. starts: int32 [rows + 1]; row i's tokens are
    starts[i] to starts[i + 1]. window: a token sees the tokens of its row that are fewer than `window` places away;
    causal: and none behind it. prefixes: row -> [2, more, key heads * width], keys and values that all of its tokens see
    besides. Tokens after the last row's get no value at all. Expected cost: one launch; 8,192 tokens in rows
    of 128, 12 heads of 64, bfloat16: 3.2 GFLOP, 10 to 20 us (estimated, not run). Raises `ValueError`.
    """
    _check(q, k, v, starts, window)
    tokens, heads, width = q.shape
    rows = len(starts) - 1
    key_heads = k.shape[1]
    pointers, more = _prefixes(prefixes or {}, rows, k)
    queries = queries_of(tokens, rows, q.dtype, width)
    out = torch.empty((tokens, heads * width), dtype=q.dtype, device=q.device)
    if not rows:
        return out
    with torch.no_grad():
        _attention[(capacity(tokens, rows, queries), heads)](
            q, k, v, out, starts, rows, pointers, more, scaling * LOG2_E, *q.stride()[:2], *k.stride()[:2],
            *v.stride()[:2], key_heads * width, SHARING=heads // key_heads, CAUSAL=causal, WINDOW=window, WIDTH=width, WIDTHS=max(16, power_of_two(width)),
            QUERIES=queries, LANES=lanes(rows), KEYS=KEYS if q.dtype == torch.bfloat16 else KEYS // 2,
            num_warps=4, num_stages=2,
        )  # fmt: skip
    return out


def queries_of(tokens: int, rows: int, dtype: torch.dtype, width: int) -> int:
    """Queries per program: as many as a row has in the mean, and as the registers hold."""
    most = HEIGHTS[0] if dtype == torch.float32 or width > 128 else HEIGHTS[-1]
    return min(most, max(HEIGHTS[0], power_of_two(parts(tokens, rows))))


def _check(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, window: int | None) -> None:
    if q.dtype not in STORAGE:
        raise ValueError(f"kernels take float32 or bfloat16, not {q.dtype}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        shape = (q.shape[0], (q if name == "q" else k).shape[1], q.shape[-1])
        if tensor.dim() != 3 or tensor.shape != shape or (tensor.shape[2] > 1 and tensor.stride(2) != 1):
            raise ValueError(f"{name} must be [tokens, heads, width] whose last axis lies tight, as all three")
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, but {q.dtype} on {q.device} is due")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} heads of queries can not share {k.shape[1]} of keys: give each as many")
    if q.shape[2] > WIDEST:
        raise ValueError(f"heads of {q.shape[2]} are wider than {WIDEST}")
    if window is not None and window < 1:
        raise ValueError(f"window must be 1 at least, or None, not {window}")
    if starts.dim() != 1 or not len(starts) or starts.dtype != torch.int32 or starts.device != q.device:
        raise ValueError(f"starts must be int32 [rows + 1] on {q.device}, not {starts.dtype} {list(starts.shape)}")


def _prefixes(prefixes: Mapping[int, Tensor], rows: int, k: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Address and length of every row's prefix, int64 and int32 [rows]; none where no row has one."""
    if not prefixes:
        return None, None
    pointers, more = [0] * rows, [0] * rows
    for row, prefix in prefixes.items():
        if row not in range(rows):
            raise ValueError(f"prefixes names row {row}, but there are {rows}")
        if prefix.shape != (2, prefix.shape[1], k.shape[1] * k.shape[2]) or not prefix.is_contiguous():
            raise ValueError(
                f"the prefix of row {row} must be tight [2, more, key heads * width], not {list(prefix.shape)}"
            )
        if prefix.dtype != k.dtype or prefix.device != k.device:
            raise ValueError(f"the prefix of row {row} must be {k.dtype} on {k.device}")
        pointers[row], more[row] = prefix.data_ptr(), prefix.shape[1]
    return upload(torch.tensor(pointers), k.device), upload(torch.tensor(more, dtype=torch.int32), k.device)


@triton.jit(do_not_specialize=["rows"])
def _attention(
    q: tl.tensor, k: tl.tensor, v: tl.tensor, out: tl.tensor, starts: tl.tensor, rows: tl.tensor, pointers: tl.tensor,
    more: tl.tensor, scaling: tl.tensor, q_stride: tl.tensor, q_head: tl.tensor, k_stride: tl.tensor,
    k_head: tl.tensor, v_stride: tl.tensor, v_head: tl.tensor, full: tl.tensor, SHARING: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, WIDTH: tl.constexpr, WIDTHS: tl.constexpr, QUERIES: tl.constexpr, LANES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    row, place, last = tile_of(starts, rows, 1, QUERIES, LANES)
    if row >= rows:
        return
    head, first = tl.program_id(1), tl.load(starts + row)
    shared = head // SHARING
    queries = place + tl.arange(0, QUERIES)
    columns = tl.arange(0, WIDTHS)[None, :]
    inside = (queries < last)[:, None] & (columns < WIDTH)
    at = queries.to(tl.int64)[:, None]
    own = tl.load(q + at * q_stride + head * q_head + columns, mask=inside, other=0.0)
    peak = tl.full((QUERIES,), float("-inf"), tl.float32)
    total, mixed = tl.zeros((QUERIES,), tl.float32), tl.zeros((QUERIES, WIDTHS), tl.float32)
    if pointers is not None:
        length = tl.load(more + row)
        held = tl.load(pointers + row).to(tl.pointer_type(q.dtype.element_ty)) + shared * WIDTH
        for start in range(0, length, KEYS):
            keys = start + tl.arange(0, KEYS)
            there = (keys < length)[None, :]
            peak, total, mixed = _step(own, held, held + length * full, keys, full, full, there, there, columns, scaling,
                                       peak, total, mixed, WIDTH)  # fmt: skip
    low, high = first, last
    if WINDOW is not None:
        tl.static_assert(QUERIES <= KEYS)  # or a query would see no key of the first block, and -inf minus -inf is none
        low, high = tl.maximum(first, place - WINDOW + 1), tl.minimum(last, place + QUERIES + WINDOW - 1)
    if CAUSAL:
        high = tl.minimum(last, place + QUERIES)
    for start in range(low, high, KEYS):
        keys = start + tl.arange(0, KEYS)
        there = (keys < last)[None, :]
        seen = there
        if WINDOW is not None:
            seen = there & (tl.abs(queries[:, None] - keys[None, :]) < WINDOW)
        if CAUSAL:
            seen = seen & (keys[None, :] <= queries[:, None])
        peak, total, mixed = _step(own, k + shared * k_head, v + shared * v_head, keys, k_stride, v_stride, there, seen,
                                   columns, scaling, peak, total, mixed, WIDTH)  # fmt: skip
    target = out + at * full * SHARING + head * WIDTH + columns
    tl.store(target, (mixed / total[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _step(
    own: tl.tensor, k: tl.tensor, v: tl.tensor, keys: tl.tensor, k_stride: tl.tensor, v_stride: tl.tensor,
    there: tl.tensor, seen: tl.tensor, columns: tl.tensor, scaling: tl.tensor, peak: tl.tensor, total: tl.tensor,
    mixed: tl.tensor, WIDTH: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # fmt: skip
    """Highest score, sum of weights and weighted values of each query, after some more keys (Milakov, Gimelshein 2018)."""
    at, known = keys.to(tl.int64)[:, None], tl.trans(there) & (columns < WIDTH)
    k_block = tl.load(k + at * k_stride + columns, mask=known, other=0.0)
    v_block = tl.load(v + at * v_stride + columns, mask=known, other=0.0)
    scores = tl.where(seen, product(own, tl.trans(k_block)) * scaling, float("-inf"))
    higher = tl.maximum(peak, tl.max(scores, 1))
    weights, faded = tl.exp2(scores - higher[:, None]), tl.exp2(peak - higher)
    mixed = mixed * faded[:, None] + product(weights.to(v_block.dtype), v_block)
    return higher, total * faded + tl.sum(weights, 1), mixed
