"""Operands of several random adapters over random segments, to hold a method's function against its reference."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.manifest import PartSpec
from adapters.methods.base import BaseMap, Fitting, Method, Operand
from adapters.methods.fold import fitting_of
from adapters.methods.table import METHODS
from adapters.weights import ALIGN, Folded
from tests.adapters import builders

# Two rows in one segment, then two segments of one row each: [tokens].
ROWS = ((0, 3), (3, 5), (5, 6), (6, 12))
BOUNDS = ((0, 5), (5, 6), (6, 12))
OWNER = (0, 0, 1, 2)  # segment of each row
TOKENS = 12


def fitting() -> Fitting:
    """The tiny BERT with a random frozen map at every linear site."""
    plain = fitting_of(builders.profile("bert"))

    def base(address: Address) -> BaseMap:
        wide, out = plain.widths(address.site)
        weight = torch.randn(out, wide, generator=torch.Generator().manual_seed(71))
        return BaseMap(weight, torch.randn(out, generator=torch.Generator().manual_seed(72)))

    return Fitting(plain.geometry, plain.architecture, base)


def stored(method: Method, config: Mapping[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Random stored tensors of a part."""
    generator = torch.Generator().manual_seed(seed)
    shapes = method.shapes(config, fitting_of(builders.profile("bert")))
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def folded(part: PartSpec, address: Address, seeds: Sequence[int]) -> list[Folded]:
    """One folded block per seed."""
    method, fitting = METHODS[part.method], fitting_of(builders.profile("bert"))
    return [
        method.fold(part.config, builders.package("bert", [part], seed=seed).tensors, fitting)[address]
        for seed in seeds
    ]


def operand(blocks: Sequence[Folded]) -> Operand:
    """The blocks as one operand over `BOUNDS`."""
    pieces = [
        functional.pad(t.reshape(-1).float(), (0, -t.numel() % ALIGN)) for b in blocks for t in b.tensors.values()
    ]
    arena = torch.cat([torch.zeros(0), *pieces])
    sizes = {name: -(-tensor.numel() // ALIGN) for name, tensor in blocks[0].tensors.items()}
    apart, params = sum(sizes.values()), {}
    for (name, tensor), start in zip(blocks[0].tensors.items(), accumulate(sizes.values(), initial=0), strict=False):
        offsets = np.array([start + i * apart for i in range(len(blocks))])
        params[name] = Stacked(arena, offsets, tuple(tensor.shape), ALIGN)
    return Operand(blocks[0].variant, Runs(BOUNDS, ROWS, TOKENS, torch.device("cpu")), params)


def tokens(width: int, seed: int) -> torch.Tensor:
    """Activations [TOKENS, width]."""
    return torch.randn(TOKENS, width, generator=torch.Generator().manual_seed(seed))


def rows(x: torch.Tensor) -> list[torch.Tensor]:
    """Each row's share."""
    return [x[start:end] for start, end in ROWS]
