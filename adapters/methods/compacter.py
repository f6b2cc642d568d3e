"""Compacter: bottlenecks whose maps are sums of Kronecker products (PHM layers).

Mahabadi et al. 2021 (arXiv:2106.04647), equations 5 to 8; PHM: Zhang et al. 2021 (arXiv:2102.08597).

    y = x H + b;  H = sum_i kron(A_i, B_i)    A [d, d, d] the rule;  B [d, in/d, out/d], factorised: L_i R_i of low rank

Folded once into the plain maps of a bottleneck (W = H^T), with which it shares operands from then on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Shapes, at, prefixed
from adapters.methods.bottleneck import MEMBERS, Variant, extra_shapes, folded, fresh, read_members
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion

SHARED = Address(None, "compacter")  # no place in the model: what the sites of one compacter share
PHM_MEMBERS = ("phm_dim", "phm_rank", "phm_bias", "factorized_W", "factorized_rule", "shared_W", "shared_rule")
SHARED_RULE_DEVIATION, OWN_RULE_DEVIATION = 1e-4, 1e-2  # of fresh rules, as in AdapterHub


@dataclass(frozen=True)
class Phm:
    """How the maps are made of what is stored."""

    dim: int  # d, the number of summands and the size of the rule
    rank: int  # of the factors L and R
    bias: bool
    factorized: bool  # `W_left` [d, in/d, rank] and `W_right` [d, rank, out/d] in place of `W`
    factorized_rule: bool  # `rule_left` [d, d, 1] and `rule_right` [d, 1, d] in place of `rule`
    shared: bool  # B is one for all sites
    shared_rule: bool  # A is one for all sites and for both maps

    def blocks(self, name: str, wide: int, out: int) -> Shapes:
        """Names and shapes of B of the map `name` (wide -> out)."""
        d = self.dim
        if not self.factorized:
            return {f"{name}.W": (d, wide // d, out // d)}
        return {f"{name}.W_left": (d, wide // d, self.rank), f"{name}.W_right": (d, self.rank, out // d)}

    def rule(self, prefix: str = "") -> Shapes:
        """Names and shapes of A."""
        d = self.dim
        if not self.factorized_rule:
            return {f"{prefix}rule": (d, d, d)}
        return {f"{prefix}rule_left": (d, d, 1), f"{prefix}rule_right": (d, 1, d)}


@dataclass(frozen=True)
class Compacter:
    """The method. It computes nothing itself: what it folds to are bottlenecks."""

    name: str = "compacter"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site what a bottleneck stores, with `down` and `up` as PHM layers; and `SHARED`."""
        variant, widths, phm = _read(config, fitting)
        h = fitting.geometry.hidden_size
        extra = extra_shapes(variant, config["scaling"], h)
        found: Shapes = {}
        for address, b in widths.items():
            own: Shapes = {}
            for name, wide, out in (("down", h, b), ("up", b, h)):
                own |= {} if phm.shared else phm.blocks(name, wide, out)
                own |= {} if phm.shared_rule else phm.rule(f"{name}.")
                own |= {f"{name}.b": (out,)} if phm.bias else {}
            found |= prefixed(address, own | extra)
        common = phm.rule() if phm.shared_rule else {}
        if phm.shared:
            b = next(iter(widths.values()))
            common |= phm.blocks("down", h, b) | phm.blocks("up", b, h)
        return found | prefixed(SHARED, common)

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """As AdapterHub: blocks Xavier normal, rules nearly 0, biases 0; the rest as bottlenecks."""
        return {name: _fresh(name, shape, generator) for name, shape in self.shapes(config, fitting).items()}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Bottlenecks; a missing bias is 0."""
        variant, widths, _ = _read(config, fitting)
        common = _products(at(tensors, SHARED))
        return {address: folded(variant, _maps(common | _products(at(tensors, address)))) for address in widths}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None


COMPACTER = Compacter()


def reference(x: Tensor, rule: Tensor, blocks: Tensor, bias: Tensor | None) -> Tensor:
    """One PHM layer, [tokens, in] -> [tokens, out]: the sum of Kronecker products, written out."""
    summed = sum(torch.kron(a, b) for a, b in zip(rule, blocks, strict=True))
    return x @ summed + (0 if bias is None else bias)


def _products(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an address stores, with factors multiplied out."""
    made = {name: tensor for name, tensor in held.items() if not name.endswith(("_left", "_right"))}
    for left in (name for name in held if name.endswith("_left")):
        whole = left.removesuffix("_left")
        made[whole] = torch.bmm(held[left], held[f"{whole}_right"])
    return made


def _maps(held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A bottleneck's parameters from rules and blocks, the site's own and shared ones."""
    made = {name: t for name, t in held.items() if name.rsplit(".", 1)[-1] not in ("rule", "W", "b")}
    for name in ("down", "up"):
        rule, blocks = held.get(f"{name}.rule", held.get("rule")), held[f"{name}.W"]
        assert rule is not None  # `shapes` has it
        d, wide, out = blocks.shape
        # kron(A, B)[a * wide + i, b * out + o] = A[a, b] B[i, o]; transposed, as W of a linear map is kept
        weight = torch.einsum("nab,nio->boai", rule, blocks).reshape(d * out, d * wide)
        made[f"{name}.weight"] = weight
        made[f"{name}.bias"] = held.get(f"{name}.b", weight.new_zeros(d * out))
    return made


def _fresh(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    parameter = name.rsplit("/", 1)[1].removeprefix("down.").removeprefix("up.")
    if parameter == "b":
        return torch.zeros(shape)
    if parameter.startswith("W"):
        return torch.randn(shape, generator=generator) * math.sqrt(2 / (shape[1] + shape[2]))
    if parameter.startswith("rule"):
        deviation = SHARED_RULE_DEVIATION if name.startswith(f"{SHARED}/") else OWN_RULE_DEVIATION
        return torch.randn(shape, generator=generator) * deviation
    return fresh(name, shape, generator)


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[Variant, dict[Address, int], Phm]:
    settings = Settings(COMPACTER.name, config, (*MEMBERS, *PHM_MEMBERS))
    variant, widths = read_members(settings, config, fitting)
    phm = Phm(
        dim=settings.count("phm_dim"),
        rank=settings.count("phm_rank"),
        bias=settings.flag("phm_bias"),
        factorized=settings.flag("factorized_W"),
        factorized_rule=settings.flag("factorized_rule"),
        shared=settings.flag("shared_W"),
        shared_rule=settings.flag("shared_rule"),
    )
    for width in sorted({fitting.geometry.hidden_size, *widths.values()}):
        if width % phm.dim:
            settings.wrong(f"phm_dim {phm.dim} does not divide the width {width}")
    if phm.shared and len(set(widths.values())) > 1:
        settings.wrong(f"shared_W needs one width at all sites, not {sorted(set(widths.values()))}")
    settings.done()
    return variant, widths, phm
