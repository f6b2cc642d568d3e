"""BitFit: Ben Zaken et al. 2021 (arXiv:2106.10199): an adapter's own bias in the place of a linear map's.

    y' = y + (b' - b)      y = W x + b

The difference is folded once. Some of PEFT's tuners add a vector beside the frozen bias (variant `ADDED`). Where a LoRA stands at the same map, the bias is a member of the LoRA; beside
other tuners (`BESIDE`) it is folded into what they fold to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.kernels.ragged import spread
from adapters.manifest import PartSpec
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.fused import at_parts
from adapters.methods.lora import SITES
from adapters.methods.settings import Settings, known_in
from adapters.methods.tables import ROWS, TABLE_ROWS
from adapters.weights import Block, Folded, Insertion

ADDED = "added"
# Tuners of PEFT beside which the frozen biases of the maps that they adapt can be others.
BESIDE = (
    "boft",
    "c3a",
    "deft",
    "delora",
    "fourierft",
    "frod",
    "glora",
    "gralora",
    "hra",
    "miss",
    "oft",
    "pvera",
    "randlora",
    "tinylora",
    "unilora",
    "vblora",
    "vera_vectors",
    "waveft",
)
# Form -> its parameter that is added to what the map gives.
_BIAS_OF = {"lora": "bias", "delta": "shift", "biases": "shift"}
PATCHES = "patches"  # whose convolution has its bias in every token but that of the class


@dataclass(frozen=True)
class Biases:
    """The method."""

    name: str = "biases"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: bias [out]."""
        found: Shapes = {}
        for address in _read(config, fitting):
            found |= prefixed(address, {"bias": (fitting.widths(address.site)[1],)})
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """The frozen biases: the adapter starts as the identity."""
        return {f"{address}/bias": fitting.bias(address).float().clone() for address in _read(config, fitting)}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """What is added to the map's output."""
        folded: dict[Address, Folded] = {}
        for address in _read(config, fitting):
            shift = fitting.bias_change(address, at(tensors, address)["bias"])
            if address.site == PATCHES:  # an entry for the class token, and one for patches
                folded[address] = Folded(TABLE_ROWS.name, None, {ROWS: torch.stack([torch.zeros_like(shift), shift])})
            else:
                folded |= at_parts(address, Folded(self.name, None, {"shift": shift}), fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """What is added to a map is a change; what stands in the place of the frozen bias is none to build on."""
        return block.variant == ADDED

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: each token's shift."""
        return spread(operand.params["shift"], operand.runs)

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the sum."""
        return y + h

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: no kernel."""
        return False


BIASES = Biases()


def own_biases(parts: Sequence[PartSpec], tensors: Mapping[str, Tensor]) -> dict[Address, Tensor]:
    """The biases [out] of a package that stand in the place of frozen ones, by address."""
    sites = [Address.parse(site) for part in parts if part.method == BIASES.name for site in part.config["sites"]]
    return {address: at(tensors, address)["bias"] for address in sites}


def with_shift(tuner: Folded, biases: Folded) -> Folded:
    """What a tuner folds to, with another bias of the same map."""
    name, shift = _BIAS_OF[tuner.method], biases.tensors["shift"]
    own = tuner.tensors.get(name)
    return replace(tuner, tensors={**tuner.tensors, name: shift if own is None else own + shift})


def _read(config: Mapping[str, Any], fitting: Fitting) -> list[Address]:
    settings = Settings("biases", config, ("sites",))
    found = settings.sites(fitting, (*SITES, PATCHES))
    for address, held in found.items():
        known_in(settings, f"sites.{address}", held, ())
    settings.done()
    return list(found)
