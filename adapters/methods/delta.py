"""A full change of a frozen map: y' = y + D x with D [out, in]; what is neither low rank nor a factor folds to this.

What is folded may have a shift [out] beside it: y' = y + D x + s (what a tuner adds to the map's bias; see also
`adapters.methods.maps`). It costs as many bytes as the map itself, and as much time as the map takes for the rows that
carry it. An adapter that changes what the map reads, or stands in its place, rather than adding to what it gives, has the
variant `lora.TURNED`: it chains with nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.kernels.ragged import enter, kernels_for
from adapters.methods.base import Fitting, Operand, Shapes, prefixed, wide_at
from adapters.methods.fused import at_parts
from adapters.methods.lora import SITES
from adapters.methods.settings import Settings, known_in
from adapters.weights import Block, Folded, Insertion

DELTA_NAME = "delta"
SHIFT = "shift"


@dataclass(frozen=True)
class Delta:
    """The method."""

    name: str = DELTA_NAME
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: delta [out, in]."""
        found: Shapes = {}
        for address in _read(config, fitting):
            wide, out = fitting.widths(address.site)
            found |= prefixed(address, {"delta": (out, wide)})
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Zeros: it starts as the identity."""
        return {name: torch.zeros(shape) for name, shape in self.shapes(config, fitting).items()}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The matrices as they are."""
        folded: dict[Address, Folded] = {}
        for address in _read(config, fitting):
            folded |= at_parts(address, Folded(self.name, None, wide_at(tensors, address)), fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """As LoRA: it must add, and its map take a state, unless it is the `first`."""
        out, wide = block.spans["delta"].shape
        return block.variant is None and (first or out == wide)

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: what is added, from the state below, or from x."""
        delta = operand.params["delta"]
        tokens = enter(x if h is None else h, operand.runs, ((delta.shape[1], delta.shape[0]),))
        return tokens.linear(delta, operand.params.get(SHIFT)).leave()

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the sum."""
        return y + h

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: y += D x, segment by segment; with a bias there is no kernel."""
        kernels, delta = kernels_for(x, operand.runs), operand.params["delta"]
        if kernels is None or SHIFT in operand.params:
            return False
        kernels.linear(x, y, operand.runs.places, delta.arena, delta.starts, accumulate=True)
        return True


DELTA = Delta()


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[Address, ...]:
    settings = Settings(DELTA_NAME, config, ("sites",))
    sites = settings.sites(fitting, SITES)
    for address, held in sites.items():
        known_in(settings, f"sites.{address}", held, ())
    settings.done()
    return tuple(sites)
