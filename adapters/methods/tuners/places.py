"""Entries of a matrix whose places are not stored: a seed draws them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.methods.tuners.tuner import Widths


def check_places(count: int, width: Widths) -> None:
    """Raise `Misfit` where a matrix has fewer entries."""
    if count > width[0] * width[1]:
        raise Misfit([f"{count} entries are more than a matrix of {width[1]} x {width[0]} has"])


def drawn(values: Tensor, seed: int, shape: Sequence[int]) -> Tensor:
    """A matrix [out, in] of zeros with the values [n] in the first n places of torch's permutation under the seed."""
    out, wide = shape
    places = torch.randperm(out * wide, generator=torch.Generator().manual_seed(seed))[: len(values)]
    return values.new_zeros(out * wide).index_copy(0, places, values).view(out, wide)
