"""The kernels of a CUDA device, with the arguments of those of the CPU (`adapters.kernels.cpu.CpuKernels`).

They were compared with torch in Triton's interpreter and compiled for an H200; none has run on a GPU yet.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.kernels.cpu import Bottlenecks, Form, Norm
from adapters.kernels.dense import activated
from adapters.kernels.triton import add_norm, attention, bottleneck, low_rank, segmented
from adapters.kernels.triton.activations import ACTIVATIONS
from adapters.kernels.triton.checks import STORAGE


class CudaKernels:
    """Every operation is one launch, and none waits for the device; adapters too wide for one launch take several.

    Offsets into arenas must be multiples of `tiles.ALIGN` elements, as those of the device tier are. What bounds, starts
    and offsets hold lies on the device and is not checked.
    """

    dtypes = frozenset(STORAGE)

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
        """See `attention.attention`."""
        return attention.attention(q, k, v, starts, scaling, window=window, prefixes=prefixes, causal=causal)

    def activate(self, x: Tensor, activation: str) -> None:
        """By torch: two launches."""
        x.copy_(_activated(x, activation))

    def add_norm(self, f: Tensor, r: Tensor | None, norm: Norm) -> Tensor:
        """See `add_norm.add_norm`."""
        return add_norm.add_norm(f, r, norm)

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
        """See `segmented.linear`."""
        segmented.linear(x, y, bounds, arena, weight, bias, accumulate=accumulate)

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
        """See `low_rank.low_rank`; ranks that it does not take pass through memory."""
        if low_rank.fits(rank):
            low_rank.low_rank(x, y, bounds, arena, down, up, rank, bias)
            return
        narrow = x.new_empty(len(x), rank)
        segmented.linear(x, narrow, bounds, arena, down)
        segmented.linear(narrow, y, bounds, arena, up, bias, accumulate=True)

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
        """See `bottleneck.bottleneck`; widths that it does not take pass through memory."""
        if bottleneck.fits(adapters.width, form.activation) or form.activation not in ACTIVATIONS:
            bottleneck.bottleneck(f, r, y, bounds, arena, adapters, form, norm)
            return
        bottleneck.check(f, r, y, form, norm)
        x = f
        if form.reads != "f":
            assert r is not None
            x = r if form.reads == "r" else _normed(f, r, norm)
        narrow, out = f.new_empty(len(f), adapters.width), torch.empty_like(f)
        segmented.linear(x, narrow, bounds, arena, adapters.down, adapters.down_bias)
        segmented.linear(_activated(narrow, form.activation), out, bounds, arena, adapters.up, adapters.up_bias)
        out *= form.scaling
        if form.adds == "x":
            out += x
        elif form.adds != "none":
            out += f
        if form.adds == "sum" and r is not None:
            out += r
        y.copy_(torch.where(_inside(bounds, len(y)), _normed(out, r, norm) if form.closes else out, y))


def _activated(x: Tensor, activation: str) -> Tensor:
    return activated(x, "leaky_relu" if activation == "leakyrelu" else activation)  # the former is AdapterHub's name


def _normed(f: Tensor, r: Tensor | None, norm: Norm | None) -> Tensor:
    if norm is not None:
        return add_norm.add_norm(f, r, norm)
    return f if r is None else f + r


def _inside(bounds: Tensor, rows: int) -> Tensor:
    """Which rows belong to a segment: bool [rows, 1], found on the device."""
    places = torch.arange(rows, device=bounds.device)[:, None]
    return ((places >= bounds[:, 0]) & (places < bounds[:, 1])).any(1, keepdim=True)
