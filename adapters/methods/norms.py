"""Norm tuning: Zhao et al. 2023 (arXiv:2312.11420): an adapter's own weight and bias in the place of a norm's.

    y' = w' * (x - mean) / sqrt(var + eps) + b'     or, in families that norm by mean squares, w' * x / sqrt(mean(x^2) + eps)

What a package does not store stays the frozen norm's: biases alone are BitFit's (arXiv:2106.10199).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.kernels.norms import FrozenNorm
from adapters.kernels.ragged import spread
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings, flag_in, known_in
from adapters.weights import Folded, Insertion

PLACES = tuple(site for site, kind in SITES.items() if kind is SiteKind.NORM)
PARAMETERS = ("weight", "bias")


@dataclass(frozen=True)
class Norms:
    """The method."""

    name: str = "norms"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: weight [width], bias [width], those that its settings name."""
        found: Shapes = {}
        for address, names in _read(config, fitting).items():
            found |= prefixed(address, {name: (fitting.norm_width(address.site),) for name in names})
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """The frozen norms' own: the adapter starts as the identity."""
        fresh: dict[str, Tensor] = {}
        for address, names in _read(config, fitting).items():
            frozen = fitting.norm(address)._asdict()
            fresh |= {f"{address}/{name}": frozen[name].float().clone() for name in names}
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Both parameters of every norm: stored ones, or the frozen norm's."""
        folded: dict[Address, Folded] = {}
        for address in _read(config, fitting):
            held, frozen = at(tensors, address), fitting.norm(address)._asdict()
            folded[address] = Folded(
                self.name, None, {name: held[name] if name in held else frozen[name] for name in PARAMETERS}
            )
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def normalise(self, x: Tensor, norm: FrozenNorm, operand: Operand) -> Tensor:
        """See `ActsOnNorm`."""
        weight, bias = (spread(operand.params[name], operand.runs) for name in PARAMETERS)
        if x.dim() > weight.dim():
            weight, bias = weight.unsqueeze(1), bias.unsqueeze(1)
        return norm.bare(x) * weight + bias


NORMS = Norms()


def reference(folded: Folded, x: Tensor, eps: float) -> Tensor:
    """One row [tokens, width] under one adapter as folded."""
    apart = x - x.mean(-1, keepdim=True)
    return (
        apart / (apart.square().mean(-1, keepdim=True) + eps).sqrt() * folded.tensors["weight"] + folded.tensors["bias"]
    )


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, tuple[str, ...]]:
    settings = Settings("norms", config, ("sites",))
    found: dict[Address, tuple[str, ...]] = {}
    for address, held in settings.sites(fitting, PLACES).items():
        where = f"sites.{address}"
        known_in(settings, where, held, PARAMETERS)
        found[address] = tuple(name for name in PARAMETERS if flag_in(settings, where, held, name))
        if not found[address]:
            settings.wrong(f"{where} names neither a weight nor a bias")
    settings.done()
    return found
