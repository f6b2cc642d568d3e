"""MTL-LoRA: Yang et al. 2024 (arXiv:2410.09437): one task's view of matrices that several tasks were trained with.

    delta = scaling * sum_i p_i B_i diag(task) A x      p = softmax(weights / sharpness)

The sum is taken once, into a plain LoRA of rank r.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Shapes, prefixed, wide_at
from adapters.methods.lora import SITES, LowRank, fresh_extra, low_rank, read_site, uniform
from adapters.methods.lora import reference as lora_reference
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion


@dataclass(frozen=True)
class MtlLora:
    """The method."""

    name: str = "mtl_lora"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: lora_A [r, in], lora_B [n, out, r], task [r], weights [n], gate.*."""
        count, _, sites = _read(config, fitting)
        found: Shapes = {}
        for address, site in sites.items():
            wide, out = fitting.widths(address.site)
            own = {"lora_A": (site.rank, wide), "lora_B": (count, out, site.rank), "task": (site.rank,)}
            found |= prefixed(address, own | {"weights": (count,)} | site.extras(wide, out))
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """A as in LoRA, every B zero, equal weights, and a task that changes nothing: it starts as the identity."""
        fresh: dict[str, Tensor] = {}
        for name, shape in self.shapes(config, fitting).items():
            match name.rsplit("/", 1)[1]:
                case "lora_A":
                    fresh[name] = uniform(shape, generator)
                case "task" | "weights":
                    fresh[name] = torch.ones(shape)
                case _:
                    fresh[name] = fresh_extra(name, shape, fitting, generator)
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """A LoRA per site."""
        _, sharpness, sites = _read(config, fitting)
        folded: dict[Address, Folded] = {}
        for address, site in sites.items():
            held = wide_at(tensors, address)
            shares = torch.softmax(held["weights"] / sharpness, dim=0)
            up = torch.einsum("n,nor->or", shares, held["lora_B"]) * held["task"]
            folded[address] = low_rank(held["lora_A"], up, site, held, address, fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None


MTL_LORA = MtlLora()


def reference(
    site: LowRank, sharpness: float, held: Mapping[str, Tensor], x: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """One row under one adapter as stored: x [tokens, in], W [out, in], b [out] -> y' [tokens, out]."""
    w = (held["weights"] / sharpness).exp()
    up = sum(w[i] * b for i, b in enumerate(held["lora_B"])) / w.sum()
    return lora_reference(site, {**held, "lora_B": up @ held["task"].diag()}, x, weight, bias)


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[int, float, dict[Address, LowRank]]:
    settings = Settings("mtl_lora", config, ("projections", "sharpness", "sites"))
    count = settings.count("projections", at_most=1024)
    sharpness = settings.number("sharpness", positive=True)
    sites = {
        address: read_site(settings, f"sites.{address}", held, ("rank", "scaling", "gated"))
        for address, held in settings.sites(fitting, SITES).items()
    }
    settings.done()
    return count, sharpness, sites
