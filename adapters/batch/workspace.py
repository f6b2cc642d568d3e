"""A run of tokens that programs act on, and the index tensors over it, made once and shared by all layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.batch.segments import layout_of
from adapters.errors import InvalidRow
from adapters.kernels.interface import Kernels
from adapters.kernels.runs import Runs
from adapters.kernels.upload import upload
from adapters.weights import Resident

Ranges = tuple[tuple[int, int], ...]
# What lies side by side and shares a chain, and who acts on each part of it: ranges and residents, unit by unit.
Owned = tuple[tuple[Ranges, ...], tuple[Resident, ...]]


@dataclass(frozen=True, eq=False)
class Owners:
    """The S adapters of an operand, one as often as it has segments.

    Where these lie, where each begins in the arena, and which `Owned` names each.
    """

    runs: Runs
    arena: Tensor
    starts: NDArray[np.int64]  # [S]
    named: NDArray[np.int64]  # [S]


@dataclass(frozen=True, eq=False)
class Arms:
    """The workspace of a fork; `starts` [pieces + 1] and `spread` [tokens] tell what each piece and token of it is."""

    workspace: "Workspace"
    starts: tuple[int, ...]
    spread: Tensor


@dataclass(eq=False)
class Workspace:
    """`total` tokens on a device."""

    total: int
    device: torch.device
    kernels: Kernels | None = None
    _runs: dict[tuple[Ranges, Ranges], Runs] = field(default_factory=dict)
    _owners: dict[tuple[int, ...], tuple[list[Owned], Owners]] = field(default_factory=dict)
    _arms: dict[tuple[Ranges, ...], Arms] = field(default_factory=dict)

    def runs(self, bounds: Ranges, rows: Ranges) -> Runs:
        """Segments `bounds` of this workspace, made of `rows`."""
        known = self._runs.get((bounds, rows))
        if known is None:
            inner = tuple(pairwise(layout_of(end - start for start, end in rows).starts))
            known = self._runs[bounds, rows] = Runs(bounds, inner, self.total, self.device, self.kernels)
        return known

    def owners(self, owned: list[Owned]) -> Owners:
        """Who acts where; rows of the same adapter that touch are one segment. Raises `InvalidRow`: two arenas."""
        key = tuple([id(held) for pair in owned for held in pair])  # of objects that `_owners` keeps alive
        known = self._owners.get(key)
        if known is None:
            known = self._owners[key] = (owned, self._found(owned))
        return known[1]

    def arms(self, pieces: tuple[Ranges, ...]) -> Arms:
        """The workspace of a fork; `pieces` [arms] are ranges of the taken tokens that each arm gets."""
        known = self._arms.get(pieces)
        if known is None:
            flat = [piece for arm in pieces for piece in arm]
            starts = layout_of(end - start for start, end in flat).starts
            index = upload(torch.cat([torch.arange(start, end) for start, end in flat]), self.device)
            known = self._arms[pieces] = Arms(Workspace(starts[-1], self.device, self.kernels), starts, index)
        return known

    def _found(self, owned: list[Owned]) -> Owners:
        owners: list[Resident] = []
        bounds: list[tuple[int, int]] = []
        named: list[int] = []
        for name, (units, residents) in enumerate(owned):
            for rows, resident in zip(units, residents, strict=True):
                for start, end in rows if len(rows) == 1 else touching(rows):
                    if owners and owners[-1] is resident and bounds[-1][1] == start:
                        bounds[-1] = (bounds[-1][0], end)
                        continue
                    owners.append(resident)
                    bounds.append((start, end))
                    named.append(name)
        rows = tuple([row for units, _ in owned for unit in units for row in unit])
        return Owners(self.runs(tuple(bounds), rows), arena_of(owners), starts_of(owners), np.array(named))


def arena_of(residents: Sequence[Resident]) -> Tensor:
    """The one arena of adapters that are computed together; raises `InvalidRow` where they lie in several."""
    arena = residents[0].arena
    if any(resident.arena is not arena for resident in residents):
        raise InvalidRow("adapters that are computed together must lie in one arena")
    return arena


def starts_of(residents: Sequence[Resident]) -> NDArray[np.int64]:
    """Where each begins in its arena [S], in units of `ALIGN`."""
    return np.array([resident.start for resident in residents], np.int64)


def touching(bounds: Sequence[tuple[int, int]]) -> Ranges:
    """Ranges with those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in bounds:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)
