"""VeRA: Kopiczko et al. 2024 (arXiv:2310.11454), with the full matrices that AdapterHub stores; DVoRA is VeRA + DoRA.

    delta = scaling * (V_B B V_D A) x      A and B are shared by all sites, V_D [r, r] and V_B [out, out] are a site's own

The four matrices are multiplied once, into a plain LoRA of rank r.
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

SHARED = Address(None, "vera")  # no place in the model: what the sites of one adapter share
STARTS = {"vera_D": 0.1, "vera_B": 0.0}  # diagonals, as in the paper: the adapter starts as the identity


@dataclass(frozen=True)
class Vera:
    """The method."""

    name: str = "vera"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Shared: lora_A [r, in], lora_B [out, r]. Per site: vera_D, vera_B, magnitude, gate.*."""
        found: Shapes = {}
        for address, site in _read(config, fitting).items():
            wide, out = fitting.widths(address.site)
            found |= {f"{SHARED}/lora_A": (site.rank, wide), f"{SHARED}/lora_B": (out, site.rank)}
            own: Shapes = {"vera_D": (site.rank, site.rank), "vera_B": (out, out)}
            found |= prefixed(address, own | site.extras(wide, out))
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Shared matrices are random, a site's own are diagonal; that of B is zero, so it starts as the identity."""
        return {
            name: self._fresh(name, shape, fitting, generator) for name, shape in self.shapes(config, fitting).items()
        }

    def _fresh(self, name: str, shape: tuple[int, ...], fitting: Fitting, generator: torch.Generator) -> Tensor:
        start = STARTS.get(name.rsplit("/", 1)[1])
        if start is not None:
            return torch.eye(shape[0]) * start
        return (
            uniform(shape, generator) if name.startswith(f"{SHARED}/") else fresh_extra(name, shape, fitting, generator)
        )

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """A LoRA per site; the products are taken in fp64, which costs little once, and leaves one rounding."""
        shared = wide_at(tensors, SHARED, torch.float64)
        folded: dict[Address, Folded] = {}
        for address, site in _read(config, fitting).items():
            held = wide_at(tensors, address, torch.float64)
            up = held["vera_B"] @ shared["lora_B"] @ held["vera_D"]
            folded[address] = low_rank(shared["lora_A"], up, site, held, address, fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None


VERA = Vera()


def reference(
    site: LowRank, shared: Mapping[str, Tensor], held: Mapping[str, Tensor], x: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """One row under one adapter as stored: x [tokens, in], W [out, in], b [out] -> y' [tokens, out]."""
    left, right = held["vera_B"] @ shared["lora_B"], held["vera_D"] @ shared["lora_A"]
    return lora_reference(site, {**held, "lora_A": right, "lora_B": left}, x, weight, bias)


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, LowRank]:
    settings = Settings("vera", config, ("rank", "scaling", "sites"))
    everywhere = {key: config.get(key) for key in ("rank", "scaling")}
    common = read_site(settings, "config", everywhere, tuple(everywhere))
    found: dict[Address, LowRank] = {}
    for address, held in settings.sites(fitting, SITES).items():
        own = {"rank": common.rank, "scaling": common.scaling, **held}
        if clash := sorted(set(held) & set(everywhere)):
            settings.wrong(f"sites.{address}: {' and '.join(clash)} must be the same everywhere")
        found[address] = read_site(settings, f"sites.{address}", own, (*everywhere, "gated", "dora"))
    if len({fitting.widths(address.site) for address in found}) > 1:
        settings.wrong("shares its matrices, so that all of its sites must have the same widths")
    settings.done()
    return found
