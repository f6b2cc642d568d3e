"""(IA)3: Liu et al. 2022 (arXiv:2205.05638): one learned factor per channel.

output: y' = y * h      h = l * scaling      a stack multiplies the factors; a gate replaces the scaling (AdapterHub)
input:  y' = W (x * l) + b                   PEFT's feed-forward modules; they chain with nothing
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.dense import dense
from adapters.kernels.ragged import Ragged, spread
from adapters.methods.base import Fitting, Operand, Shapes, prefixed, wide_at
from adapters.methods.fused import at_parts
from adapters.methods.gate import BIAS, WEIGHT, gate_shapes, row_gate
from adapters.methods.lora import SITES, fresh_extra
from adapters.methods.settings import Settings, choice_in, flag_in, known_in, number_in
from adapters.weights import Block, Folded, Insertion

SIDES = ("output", "input")


@dataclass(frozen=True)
class Factor:
    """The settings of one site; `at`: which side of the map is scaled, `gated`: a gate stands for the scaling."""

    at: str
    scaling: float
    gated: bool


@dataclass(frozen=True)
class Ia3:
    """The method."""

    name: str = "ia3"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: scale [out], or [in] where it scales the input, and gate.*."""
        found: Shapes = {}
        for address, site in _read(config, fitting).items():
            wide, out = fitting.widths(address.site)
            own: Shapes = {"scale": (wide if site.at == "input" else out,)}
            found |= prefixed(address, own | (gate_shapes(wide) if site.gated else {}))
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Ones: the adapter starts as the identity (times its gate's half)."""
        return {
            name: torch.ones(shape) if name.endswith("scale") else fresh_extra(name, shape, fitting, generator)
            for name, shape in self.shapes(config, fitting).items()
        }

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The constant factor goes into the vector."""
        folded: dict[Address, Folded] = {}
        for address, site in _read(config, fitting).items():
            held = wide_at(tensors, address)
            scale = {"scale": held["scale"] * (1.0 if site.gated else site.scaling)}
            gate = {name: held[name] for name in (WEIGHT, BIAS)} if site.gated else {}
            folded |= at_parts(address, Folded(self.name, site.at, scale | gate), fitting)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """Whether the block can follow another in a chain, or be followed: factors of inputs can not do either."""
        return block.variant == "output"

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the factors of outputs so far; for inputs what scaling them adds to the output."""
        scale = operand.params["scale"]
        if operand.variant == "input":
            assert h is None  # `chains` forbids it
            return dense(Ragged(x, operand.runs, padded=False).scale(scale).leave() - x, weight, None)
        factors = spread(scale, operand.runs)
        state = factors if h is None else h * factors
        return state * row_gate(x, operand) if WEIGHT in operand.params else state

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the product, or for inputs the sum."""
        if torch.is_grad_enabled():
            return y * h if operand.variant == "output" else y + h
        return y.mul_(h) if operand.variant == "output" else y.add_(h)

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: plain factors of outputs, segment by segment in place; on the CPU that saves a copy of y.

        Another device would wait for as many launches.
        """
        scale = operand.params["scale"]
        if operand.variant != "output" or WEIGHT in operand.params or torch.is_grad_enabled() or not y.is_cpu:
            return False
        for (start, end), factors in zip(operand.runs.bounds, scale.all().unbind(), strict=True):
            y[start:end].mul_(factors)
        return True


IA3 = Ia3()


def reference(site: Factor, held: Mapping[str, Tensor], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One row under one adapter as stored: x [tokens, in], W [out, in], b [out] -> y' [tokens, out]."""
    scaling = torch.sigmoid(x @ held[WEIGHT].T + held[BIAS]).mean() if site.gated else site.scaling
    scale = held["scale"] * scaling
    if site.at == "input":
        return functional.linear(x * scale, weight, bias)
    return functional.linear(x, weight, bias) * scale


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, Factor]:
    settings = Settings("ia3", config, ("sites",))
    found: dict[Address, Factor] = {}
    for address, held in settings.sites(fitting, SITES).items():
        where = f"sites.{address}"
        known_in(settings, where, held, ("at", "scaling", "gated"))
        found[address] = Factor(
            at=choice_in(settings, where, held, "at", SIDES),
            scaling=number_in(settings, where, {"scaling": 1.0, **held}, "scaling"),
            gated=flag_in(settings, where, held, "gated"),
        )
        if found[address].gated and found[address].at == "input":
            settings.wrong(f"{where}: only factors of outputs have a gate")
    settings.done()
    return found
