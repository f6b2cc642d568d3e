"""Full fine-tuning of single linear maps: an adapter's own W', and b' where it has one, in the place of the frozen ones.

    y' = y + (W' - W) x + (b' - b)      y = W x + b

The difference is folded once, to a full delta (`adapters.methods.delta` says what it costs) that adds to nothing: another
adapter has no frozen map to build on there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Shapes, prefixed, wide_at
from adapters.methods.delta import DELTA_NAME, SHIFT
from adapters.methods.fused import at_parts
from adapters.methods.lora import SITES, TURNED
from adapters.methods.settings import Settings, flag_in, known_in
from adapters.weights import Folded, Insertion

PARAMETERS = ("weight", "bias")


@dataclass(frozen=True)
class Maps:
    """The method. A site says whether it has a `bias` of its own; without one the frozen map's stays."""

    name: str = "maps"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: weight [out, in], and bias [out] where its settings say so."""
        found: Shapes = {}
        for address, biased in _read(config, fitting).items():
            wide, out = fitting.widths(address.site)
            found |= prefixed(address, {"weight": (out, wide), **({"bias": (out,)} if biased else {})})
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """The frozen maps: the adapter starts as the identity."""
        fresh: dict[str, Tensor] = {}
        for address, biased in _read(config, fitting).items():
            fresh[f"{address}/weight"] = fitting.weight(address).float().clone()
            if biased:
                fresh[f"{address}/bias"] = fitting.bias(address).float().clone()
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """What is added to the map, as a full delta."""
        folded: dict[Address, Folded] = {}
        for address, biased in _read(config, fitting).items():
            held = wide_at(tensors, address)
            change = {"delta": held["weight"] - fitting.weight(address).to(held["weight"])}
            if biased:
                change[SHIFT] = fitting.bias_change(address, held["bias"])
            folded |= at_parts(address, Folded(DELTA_NAME, TURNED, change), fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None


MAPS = Maps()


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, bool]:
    settings = Settings(MAPS.name, config, ("sites",))
    found: dict[Address, bool] = {}
    for address, held in settings.sites(fitting, SITES).items():
        where = f"sites.{address}"
        known_in(settings, where, held, ("bias",))
        found[address] = flag_in(settings, where, held, "bias")
    settings.done()
    return found
