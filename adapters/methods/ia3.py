"""(IA)3: Liu et al. 2022 (arXiv:2205.05638): one learned factor per channel.

output: y = (W x + b) * l * scaling (AdapterHub)      input: y = W (x * l) + b (PEFT's feed-forward modules)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.dense import dense
from adapters.kernels.ragged import Ragged
from adapters.methods.base import Fitting, Operand, Shapes, at
from adapters.methods.settings import Settings, number_in
from adapters.weights import Folded, Insertion

SITES = ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_in", "ffn_out", "pooler")


@dataclass(frozen=True)
class Ia3:
    """The method."""

    name: str = "ia3"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: scale [out], or [in] where it scales the input."""
        return {
            f"{address}/scale": (fitting.widths(address.site)[0 if side == "input" else 1],)
            for address, (side, _) in _read(config, fitting).items()
        }

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Ones: the adapter starts as the identity."""
        return {name: torch.ones(shape) for name, shape in self.shapes(config, fitting).items()}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The constant factor goes into the vector."""
        return {
            address: Folded(self.name, side, {"scale": at(tensors, address)["scale"] * scaling})
            for address, (side, scaling) in _read(config, fitting).items()
        }

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def linear(self, x: Tensor, y: Tensor, weight: Tensor, operand: Operand) -> tuple[Tensor, Tensor]:
        """See `ActsOnLinear`. Stacked vectors multiply."""
        scale = operand.params["scale"]
        if operand.variant == "output":
            return x, Ragged(y, operand.runs, padded=False).scale(scale).leave()
        scaled = Ragged(x, operand.runs, padded=False).scale(scale).leave()
        return scaled, y + dense(scaled - x, weight, None)


IA3 = Ia3()


def reference(folded: Folded, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One row under one adapter: x [tokens, in], the base map's W [out, in] and b [out]."""
    scale = folded.tensors["scale"]
    if folded.variant == "input":
        return functional.linear(x * scale, weight, bias)
    return functional.linear(x, weight, bias) * scale


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, tuple[str, float]]:
    settings = Settings("ia3", config, ("sites",))
    found: dict[Address, tuple[str, float]] = {}
    for address, held in settings.sites(fitting, SITES).items():
        side = held.get("at", "output")
        if side not in ("output", "input"):
            settings.wrong(f"sites.{address}.at must be 'output' or 'input', not {side!r}")
        found[address] = (str(side), number_in(settings, f"sites.{address}", {"scaling": 1.0} | dict(held), "scaling"))
    settings.done()
    return found
