"""The compiled CPU kernels over tensors: each checks what it is given, then makes one call that lets other threads run.

All tensors of one call have one storage type, float32 or bfloat16; sums, softmax, norms and activations are float32, and
bfloat16 is rounded where it enters a matrix product and once where it leaves. `x`, `y`, `q`, `k`, `v`, `f`, `r` are rows
whose last axis lies tight; rows may be strided (thirds of one tensor). Nothing here is differentiable. Wrong arguments
raise `ValueError`; what goes wrong inside raises `MemoryError` or `RuntimeError`.
"""

import ctypes
from collections.abc import Mapping
from ctypes import c_char_p
from dataclasses import dataclass
from struct import Struct
from typing import Literal

import torch
from torch import Tensor

from adapters.kernels.arguments import NO_PREFIXES, Prefixes, entries, norm_at, segments_of, start, stride

STORAGE: Mapping[torch.dtype, int] = {torch.float32: 0, torch.bfloat16: 1}
READS: Mapping[str, int] = {"normed": 0, "f": 1, "r": 2}
ADDS: Mapping[str, int] = {"none": 0, "f": 1, "x": 2, "sum": 3}
# Names as in `adapters.methods.settings.activation`; several stand for one function.
ACTIVATIONS: Mapping[str, int] = {
    "linear": 0,
    "relu": 1,
    "gelu": 2,
    "gelu_python": 2,
    "gelu_new": 3,
    "gelu_fast": 3,
    "gelu_pytorch_tanh": 3,
    "silu": 4,
    "swish": 4,
    "tanh": 5,
    "sigmoid": 6,
    "leakyrelu": 7,
    "leaky_relu": 7,
}
# What a kernel answers when it refuses its arguments; it has written nothing then.
REFUSALS: Mapping[int, str] = {
    1: "starts must ascend from 0 to the number of tokens",
    2: "bounds must name ranges of the rows, and no row twice",
    3: "offsets must lie in the arena, with all that they place",
}
FINE, OUT_OF_MEMORY = 0, 4
# What each function of `native/` is given: its struct `Call`, field by field.
CALLS: Mapping[str, Struct] = {
    "attention": Struct("@qq PPPP qqq qqqq Pq dqq PP".replace(" ", "")),
    "activate": Struct("@qq P qqq q".replace(" ", "")),
    "add_norm": Struct("@qq PPP qqq qq PP d".replace(" ", "")),
    "linear": Struct("@qq PP qq qqq Pq Pq PP q".replace(" ", "")),
    "low_rank": Struct("@qq PP qq qqq Pq Pq PPP q".replace(" ", "")),
    "bottleneck": Struct("@qq PPP qqq qq Pq Pq PPPP q qqqq d q PP d".replace(" ", "")),
}


@dataclass(frozen=True, eq=False)
class Norm:
    """A frozen layer norm: weight and bias [width], float32 whatever the storage; either may be missing (ones, zeros)."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True)
class Form:
    """What a bottleneck reads, what is added to its u, and whether `out + r` and the base norm follow.

    reads: `normed` is norm(f + r), or f + r where there is no norm. adds: `sum` is f + r, `x` what was read.
    """

    reads: Literal["normed", "f", "r"]
    adds: Literal["none", "f", "x", "sum"]
    closes: bool
    activation: str
    scaling: float = 1.0


@dataclass(frozen=True, eq=False)
class Bottlenecks:
    """Where the parameters of S bottlenecks of one width begin in the arena, in elements; each int64 [S].

    down [width, hidden], down_bias [width], up [hidden, width], up_bias [hidden].
    """

    width: int
    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor


class CpuKernels:
    """The kernels of one compiled library; without state, and free to be called by several threads at once.

    `dtypes` are the storage types that this machine runs.
    """

    def __init__(self, library: ctypes.CDLL, dtypes: frozenset[torch.dtype] = frozenset(STORAGE)) -> None:
        self.dtypes = dtypes
        self._functions = {name: library[f"chorus_{name}"] for name in CALLS}
        for function in self._functions.values():
            function.argtypes = (c_char_p,)
        self._message = library["chorus_message"]
        self._message.restype = c_char_p

    def attention(
        self,
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

        k, v [tokens, key heads, width]: as many heads of queries share each. starts: int32 [rows + 1]; row i has the
        tokens starts[i] to starts[i + 1] - 1. window: a token sees the tokens of its row that are fewer than `window`
        places away; causal: and none behind it. prefixes: row -> [2, more, key heads * width], keys and values that all
        of its tokens see besides.
        """
        tokens, heads, width = q.shape
        key_heads = k.shape[1]
        if not key_heads or heads % key_heads:
            raise ValueError(f"{heads} heads of queries can not share {key_heads} of keys: give each as many")
        dtype, shared, full = self._storage(q), (tokens, key_heads, width), key_heads * width
        strides = stride("q", q, dtype, q.shape), stride("k", k, dtype, shared), stride("v", v, dtype, shared)
        rows = entries("starts", starts, torch.int32) - 1
        if rows < 0 or (window is not None and window < 1):
            raise ValueError("starts needs one entry more than there are rows, and window is 1 at least, or None")
        before = Prefixes.of(prefixes, rows, dtype, full) if prefixes else NO_PREFIXES
        out = torch.empty(tokens, heads * width, dtype=dtype)
        self._call(
            "attention", dtype, q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), *strides, tokens, heads,
            key_heads, width, starts.data_ptr(), rows, scaling, window or 0, causal, before.starts, before.lengths,
        )  # fmt: skip
        return out

    def activate(self, x: Tensor, activation: str) -> None:
        """act(x) in the place of x [n, width]; activations are those of `ACTIVATIONS`."""
        dtype = self._storage(x)
        self._call("activate", dtype, x.data_ptr(), stride("x", x, dtype, x.shape), *x.shape, _activation(activation))

    def add_norm(self, f: Tensor, r: Tensor | None, norm: Norm) -> Tensor:
        """norm(f + r), or norm(f) where r is None: [n, width] -> [n, width]."""
        dtype, shape = self._storage(f), f.shape
        strides = stride("f", f, dtype, shape), 0 if r is None else stride("r", r, dtype, shape), shape[1]
        held = norm_at(norm.weight, norm.bias, shape[1])
        out = torch.empty(shape, dtype=dtype)
        self._call("add_norm", dtype, f.data_ptr(), start(r), out.data_ptr(), *strides, *shape, *held, norm.eps)
        return out

    def linear(
        self,
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

        x [n, in], y [n, out] (written in place; rows outside of all segments stay). bounds: int32 [S, 2], first row and
        one past the last. arena: flat. weight, bias: int64 [S], where each begins in the arena, in elements.
        """
        dtype = self._storage(x)
        strides = stride("x", x, dtype, x.shape), stride("y", y, dtype, (x.shape[0], y.shape[-1]))
        count = segments_of(bounds, arena, dtype, weight=weight, bias=bias)
        self._call(
            "linear", dtype, x.data_ptr(), y.data_ptr(), *strides, *x.shape, y.shape[1], bounds.data_ptr(), count,
            arena.data_ptr(), arena.numel(), weight.data_ptr(), start(bias), accumulate,
        )  # fmt: skip

    def low_rank(
        self,
        x: Tensor,
        y: Tensor,
        bounds: Tensor,
        arena: Tensor,
        down: Tensor,
        up: Tensor,
        rank: int,
        bias: Tensor | None = None,
    ) -> None:
        """y += B (A x) + b for the rows of every segment with its own A [rank, in], B [out, rank] and b [out].

        Arguments as for `linear`; A x is rounded to the storage type between the two products.
        """
        dtype = self._storage(x)
        strides = stride("x", x, dtype, x.shape), stride("y", y, dtype, (x.shape[0], y.shape[-1]))
        count = segments_of(bounds, arena, dtype, down=down, up=up, bias=bias)
        if rank < 1:
            raise ValueError(f"rank must be 1 at least, not {rank}")
        self._call(
            "low_rank", dtype, x.data_ptr(), y.data_ptr(), *strides, *x.shape, y.shape[1], bounds.data_ptr(), count,
            arena.data_ptr(), arena.numel(), down.data_ptr(), up.data_ptr(), start(bias), rank,
        )  # fmt: skip

    def bottleneck(
        self,
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

            x = norm(f + r) | f | r;  u = scaling * (W_u act(W_d x + b_d) + b_u);  out = u + (0 | f | x | f + r)
            y = norm(out + r) if the form closes, else out

        r may be None where the form does not need it; norm None leaves the norm out. bounds, arena: as for `linear`.
        """
        dtype, shape, a = self._storage(f), f.shape, adapters
        if r is None and (form.reads != "f" or form.adds == "sum" or form.closes):
            raise ValueError(f"a bottleneck of the form {form} needs r")
        if a.width < 1:
            raise ValueError(f"the width of a bottleneck must be 1 at least, not {a.width}")
        strides = stride("f", f, dtype, shape), 0 if r is None else stride("r", r, dtype, shape)
        count = segments_of(bounds, arena, dtype, down=a.down, down_bias=a.down_bias, up=a.up, up_bias=a.up_bias)
        held = (0, 0, 0.0) if norm is None else (*norm_at(norm.weight, norm.bias, shape[1]), norm.eps)
        self._call(
            "bottleneck", dtype, f.data_ptr(), start(r), y.data_ptr(), *strides, stride("y", y, dtype, shape), *shape,
            bounds.data_ptr(), count, arena.data_ptr(), arena.numel(), a.down.data_ptr(), a.down_bias.data_ptr(),
            a.up.data_ptr(), a.up_bias.data_ptr(), a.width, READS[form.reads], ADDS[form.adds], form.closes,
            _activation(form.activation), form.scaling, norm is not None, *held,
        )  # fmt: skip

    def _storage(self, x: Tensor) -> torch.dtype:
        if x.dtype not in self.dtypes:
            known = " or ".join(sorted(str(dtype) for dtype in self.dtypes))
            raise ValueError(f"the compiled kernels of this machine run {known}, not {x.dtype}")
        return x.dtype

    def _call(self, name: str, dtype: torch.dtype, *fields: float) -> None:
        """Call one function with the number of threads that torch would use; raises what it answers."""
        call = CALLS[name].pack(STORAGE[dtype], torch.get_num_threads(), *fields)
        status = self._functions[name](call)
        if status == FINE:
            return
        if status in REFUSALS:
            raise ValueError(f"{name}: {REFUSALS[status]}")
        if status == OUT_OF_MEMORY:
            raise MemoryError(f"{name}: no memory for the kernel's own blocks")
        said = self._message().decode(errors="replace").partition("\n")[0]  # below it stand the frames of torch's stack
        raise RuntimeError(f"{name}: {said}")


def _activation(name: str) -> int:
    if name not in ACTIVATIONS:
        raise ValueError(f"the compiled kernels have {', '.join(ACTIVATIONS)}, not {name!r}; use torch's")
    return ACTIVATIONS[name]
