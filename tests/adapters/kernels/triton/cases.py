"""Random segments, and their parameters in one arena, for kernels that are compared with plain arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from triton import knobs

from adapters.kernels.triton.tiles import ALIGN

DEVICE = torch.device("cpu" if knobs.runtime.interpret else "cuda")
# Largest error, as a part of the result's largest magnitude. The interpreter cuts bfloat16 off where a GPU rounds it.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Batch:
    """Rows of a batch of `total`, in segments that lie in any order, with gaps between them."""

    bounds: tuple[tuple[int, int], ...]
    total: int

    @property
    def at(self) -> Tensor:
        return torch.tensor(self.bounds, dtype=torch.int32, device=DEVICE).view(-1, 2)

    def outside(self) -> Tensor:
        """Which rows belong to nobody."""
        free = torch.ones(self.total, dtype=torch.bool)
        for start, end in self.bounds:
            free[start:end] = False
        return free


def batch_of(lengths: Sequence[int], seed: int = 0, gap: int = 3) -> Batch:
    """Segments of these lengths, shuffled, each after a gap of 0 to `gap` rows."""
    rng = torch.Generator().manual_seed(seed)
    at, bounds = 0, []
    for length in lengths:
        at += int(torch.randint(0, gap + 1, (), generator=rng))
        bounds.append((at, at + length))
        at += length
    order = torch.randperm(len(bounds), generator=rng).tolist()
    return Batch(tuple(bounds[i] for i in order), at + gap)


@dataclass(eq=False)
class Shelf:
    """Parameters one after another, as the device tier keeps them; between them NaN, which no kernel may read."""

    dtype: torch.dtype
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = torch.Generator().manual_seed(self.seed)
        self._pieces: list[Tensor] = [torch.full((ALIGN,), torch.nan)]

    def place(self, count: int, *shape: int, scale: float = 1.0) -> tuple[list[Tensor], Tensor]:
        """`count` random parameters of one shape as stored, and their offsets."""
        made, starts = [], []
        for _ in range(count):
            value = (torch.randn(*shape, generator=self._rng) * scale).to(self.dtype)
            starts.append(sum(len(piece) for piece in self._pieces))
            gap = torch.full((ALIGN - value.numel() % ALIGN,), torch.nan)
            self._pieces += [value.flatten().float(), gap]
            made.append(value)
        return made, torch.tensor(starts, device=DEVICE)

    @property
    def arena(self) -> Tensor:
        return torch.cat(self._pieces).to(self.dtype).to(DEVICE)


def rows_of(total: int, width: int, dtype: torch.dtype, seed: int = 0, *, strided: bool = True) -> Tensor:
    """Random rows [total, width] on the device; strided ones are a part of wider rows."""
    rng = torch.Generator().manual_seed(1000 + seed)
    wider = torch.randn(total, width + (5 if strided else 0), generator=rng).to(dtype).to(DEVICE)
    return wider[:, 2 : 2 + width] if strided else wider


def assert_close(found: Tensor, due: Tensor, dtype: torch.dtype) -> None:
    """Equal up to the rounding of the storage type."""
    error = float((found.double().cpu() - due.double().cpu()).abs().max())
    assert error <= TOLERANCE[dtype] * max(1.0, float(due.abs().max())), error
