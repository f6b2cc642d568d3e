"""What the kernels of a device can do, whatever they are written in."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from adapters.kernels.cpu import Bottlenecks, Form, Norm


class Kernels(Protocol):
    """See `adapters.kernels.cpu.CpuKernels` for shapes, types and formulas; all implementations agree in them."""

    @property
    def dtypes(self) -> frozenset[torch.dtype]:
        """The storage types that they compute with on this machine."""
        ...

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
        """Attention of every row by itself, and to its prefixes: [tokens, heads * width]."""
        ...

    def activate(self, x: Tensor, activation: str) -> None:
        """act(x) in the place of x [n, width]; activations are those of `adapters.kernels.cpu.ACTIVATIONS`."""
        ...

    def add_norm(self, f: Tensor, r: Tensor | None, norm: Norm) -> Tensor:
        """norm(f + r): [n, width]."""
        ...

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
        """y = W x + b with each segment's own W and b."""
        ...

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
        """y += B (A x) + b with each segment's own A, B and b."""
        ...

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
        """Bottlenecks at a junction with each segment's own parameters."""
        ...
