"""Tuners held against their formulas, written out entry by entry: the change of W that a block makes."""

from collections.abc import Mapping
from typing import Any

import torch

from adapters.architectures.sites import Address
from adapters.methods.base import Method
from adapters.weights import Folded
from tests.adapters.methods import operands

FITTING = operands.fitting()
SITE = "1/attn_v"
WEIGHT = FITTING.weight(Address.parse(SITE))
UP, DOWN = "1/ffn_in", "1/ffn_out"  # maps that widen and narrow


def config(said: Mapping[str, Any], *sites: str) -> dict[str, Any]:
    return {"sites": {site: dict(said) for site in sites or (SITE,)}}


def weight(site: str) -> torch.Tensor:
    return FITTING.weight(Address.parse(site))


def stored(method: Method, said: Mapping[str, Any], *sites: str, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random tensors of the tuner at some sites."""
    return operands.stored(method, config(said, *sites), seed)


def at(tensors: Mapping[str, torch.Tensor], site: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{site}/"): t for name, t in tensors.items() if name.startswith(f"{site}/")}


def block(method: Method, said: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], site: str = SITE) -> Folded:
    """What the tensors of one site fold to."""
    return method.fold(config(said, *sites_of(tensors, site)), tensors, FITTING)[Address.parse(site)]


def sites_of(tensors: Mapping[str, torch.Tensor], site: str) -> list[str]:
    found = dict.fromkeys(name.rsplit("/", 1)[0] for name in tensors if not name.startswith("model/"))
    return list(found) or [site]


def delta(folded: Folded) -> torch.Tensor:
    """The change of W [out, in] that a block makes."""
    if folded.method == "lora":
        return folded.tensors["up"] @ folded.tensors["down"]
    assert folded.method == "delta"
    return folded.tensors["delta"]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=2e-5, rtol=1e-4)
