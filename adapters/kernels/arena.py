"""The same parameter of several adapters, gathered out of one arena by offset."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.kernels.upload import upload


@dataclass(frozen=True, eq=False)
class Stacked:
    """One parameter of S adapters: all of one shape, each at its own offset of a flat arena.

    `offsets` count in units of `align` elements. Adapters of any layout can stand side by side, because the arena is
    seen as overlapping rows that begin at every multiple of `align`.
    """

    arena: Tensor  # [elements]
    offsets: NDArray[np.int64]  # [S]
    shape: tuple[int, ...]
    align: int

    @cached_property
    def starts(self) -> Tensor:
        """Where each begins in the arena, in elements: int64 [S], on the arena's device."""
        return upload(torch.from_numpy(self.offsets * self.align), self.arena.device)

    def one(self, index: int) -> Tensor:
        """The parameter of one adapter, [*shape], in place; differentiable where the arena is."""
        size = _elements(self.shape)
        return self.arena.narrow(0, int(self.offsets[index]) * self.align, size).view(self.shape)

    def transposed(self, index: int) -> Tensor:
        """`one(index).t()` of a matrix in one step, [columns, rows]; for the hot path, where nothing is differentiated."""
        rows, columns = self.shape
        start = self.arena.storage_offset() + int(self.offsets[index]) * self.align
        return self.arena.as_strided((columns, rows), (1, columns), start)

    def all(self) -> Tensor:
        """The parameters of all adapters, [S, *shape]; a copy unless S is 1."""
        if len(self.offsets) == 1:
            return self.one(0).unsqueeze(0)
        if self.arena.requires_grad:
            return torch.stack([self.one(i) for i in range(len(self.offsets))])
        size = _elements(self.shape)
        first, last = int(self.offsets.min()), int(self.offsets.max())
        start = self.arena.storage_offset() + first * self.align  # as_strided counts from the storage's start
        rows = self.arena.as_strided((last - first + 1, size), (self.align, 1), start)
        index = upload(torch.from_numpy(self.offsets - first), self.arena.device)
        return rows.index_select(0, index).view(len(self.offsets), *self.shape)


def _elements(shape: Sequence[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
