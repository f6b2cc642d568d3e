"""Runs of tokens: which tokens of the packed batch belong to which of S segments, and how to take and put them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapters.kernels.interface import Kernels
from adapters.kernels.upload import upload

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Runs:
    """S segments of a packed batch, each a contiguous range of tokens, in ascending order.

    `rows` are the ranges of the single rows inside the taken tokens (for means over a row). `device` is where the
    index tensors live; `kernels` are what computes there, where more than torch's own operations are at hand.
    """

    bounds: tuple[tuple[int, int], ...]  # [S] first token and one past the last, in the batch
    rows: tuple[tuple[int, int], ...]  # [rows] ranges in the taken tokens
    total: int  # tokens of the whole batch
    device: torch.device
    kernels: Kernels | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` answers, made once for all layers of a pass; the key begins with its maker's name."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each segment, [S]."""
        return tuple(end - start for start, end in self.bounds)

    @cached_property
    def count(self) -> int:
        """Taken tokens, n."""
        return sum(self.lengths)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest segment, M."""
        return max(self.lengths)

    @cached_property
    def _block(self) -> tuple[int, int] | None:
        """The one range that all segments make up, if they touch."""
        touching = all(self.bounds[i][1] == self.bounds[i + 1][0] for i in range(len(self.bounds) - 1))
        return (self.bounds[0][0], self.bounds[-1][1]) if touching else None

    @cached_property
    def _tokens(self) -> Tensor:
        return upload(torch.cat([torch.arange(start, end) for start, end in self.bounds]), self.device)

    @cached_property
    def places(self) -> Tensor:
        """`bounds` as kernels take them: int32 [S, 2]."""
        return upload(torch.tensor(self.bounds, dtype=torch.int32), self.device)

    @cached_property
    def inner_places(self) -> Tensor:
        """The segments' ranges among the taken tokens, int32 [S, 2]."""
        ends = list(accumulate(self.lengths, initial=0))
        return upload(torch.tensor(list(pairwise(ends)), dtype=torch.int32), self.device)

    @cached_property
    def segment_of_token(self) -> Tensor:
        """Segment of every taken token, [n]."""
        return upload(_owners(self.lengths), self.device)

    @cached_property
    def row_of_token(self) -> Tensor:
        """Row (among `rows`) of every taken token, [n]."""
        return upload(_owners([end - start for start, end in self.rows]), self.device)

    @cached_property
    def padded_index(self) -> Tensor:
        """[S * M]: taken token at every place of the padded form; a pad repeats its own segment's first token."""
        lengths = torch.tensor(self.lengths)
        starts = torch.cumsum(lengths, 0) - lengths
        place = torch.arange(self.longest)
        index = torch.where(place < lengths[:, None], place, 0) + starts[:, None]
        return upload(index.reshape(-1), self.device)

    @cached_property
    def compact_index(self) -> Tensor:
        """[n]: place in the padded form of every taken token."""
        lengths = torch.tensor(self.lengths)
        starts = torch.cumsum(lengths, 0) - lengths
        shift = torch.arange(len(self.lengths)) * self.longest - starts
        return upload(torch.arange(self.count) + shift[_owners(self.lengths)], self.device)

    def take(self, x: Tensor) -> Tensor:
        """The segments' tokens of x [total, width], one after another: [n, width]; a view where they touch."""
        if self._block is not None:
            return x[self._block[0] : self._block[1]]
        return x.index_select(0, self._tokens)

    def put(self, x: Tensor, taken: Tensor) -> Tensor:
        """x [total, width] with the segments' tokens replaced; writes into x unless that loses gradients."""
        if self._block == (0, self.total):
            return taken
        if torch.is_grad_enabled() and (taken.requires_grad or x.requires_grad):
            x = x.clone()
        if self._block is not None:
            x[self._block[0] : self._block[1]] = taken
            return x
        return x.index_copy_(0, self._tokens, taken)


def _owners(lengths: Sequence[int]) -> Tensor:
    """Whose each token is, [n]; on the host, where nobody has to wait for their number."""
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
