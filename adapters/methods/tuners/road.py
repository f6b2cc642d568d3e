"""RoAd: Liao et al. 2024 (arXiv:2409.00119): pairs of output channels are turned and stretched.

    y'_i = first_i y_i - second_i y_j        y'_j = first_j y_j + second_j y_i        first = a cos t, second = a sin t

The channels i and j lie half a group apart. `road_1`: one angle t and factor a per pair, `road_2`: one per channel,
`road_4`: two, one for each of cosine and sine. It acts on W x + b as it is, for the bytes of two vectors, and chains
with nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.kernels.ragged import spread
from adapters.methods.base import BaseMap, Fitting, Operand, Shapes
from adapters.methods.tuners.tuner import COUNT, Held, Said, Tuner, Widths, divided, one_of
from adapters.weights import Block, Folded, Insertion

PER_CHANNEL = {"road_1": 0.5, "road_2": 1, "road_4": 2}


def _shapes(said: Said, width: Widths) -> Shapes:
    divided("twice half a group", said["group"], 2)
    divided("the group", width[1], said["group"])
    size = int(width[1] * PER_CHANNEL[said["variant"]])
    return {"theta": (size,), "alpha": (size,)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    theta, alpha, group = held["theta"], held["alpha"], said["group"]
    if said["variant"] == "road_1":
        theta, alpha = (t.view(-1, 1, group // 2).expand(-1, 2, -1).reshape(-1) for t in (theta, alpha))
    if said["variant"] == "road_4":
        (cosines, sines), (long, wide) = (t.view(-1, 2, group).unbind(1) for t in (theta, alpha))
        factors = {"first": (long * cosines.cos()).reshape(-1), "second": (wide * sines.sin()).reshape(-1)}
    else:
        factors = {"first": alpha * theta.cos(), "second": alpha * theta.sin()}
    return Folded("road", group, factors)


_STORED = Tuner("road", {"variant": one_of(*PER_CHANNEL), "group": COUNT}, _shapes, _change)


@dataclass(frozen=True)
class Road:
    """The method; the variant of its blocks is the size of a group."""

    name: str = "road"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: theta and alpha [out / 2], [out] or [2 out]."""
        return _STORED.shapes(config, fitting)

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """No angle, and factors of one: it starts as the identity."""
        start = {"theta": torch.zeros, "alpha": torch.ones}
        return {name: start[name.rsplit("/", 1)[1]](shape) for name, shape in self.shapes(config, fitting).items()}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The two factors [out] of every channel."""
        return _STORED.fold(config, tensors, fitting)

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """Never: two turns are no longer a turn with two factors per channel."""
        return False

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the channels' own factors; the others come with the output."""
        assert h is None  # `chains` forbids it
        return spread(operand.params["first"], operand.runs)

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: every pair turned."""
        return y * h + _partners(y, operand) * spread(operand.params["second"], operand.runs)

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: segment by segment in place, on the CPU."""
        if torch.is_grad_enabled() or not y.is_cpu:
            return False
        first, second = operand.params["first"].all(), operand.params["second"].all()
        for i, (start, end) in enumerate(operand.runs.bounds):
            turned = _partners(y[start:end], operand).mul_(second[i])
            y[start:end].mul_(first[i]).add_(turned)
        return True


ROAD = Road()


def _partners(y: Tensor, operand: Operand) -> Tensor:
    """Of every channel of y [n, out] the other one of its pair, with the sign that it has in the turn."""
    half = int(str(operand.variant)) // 2
    one, other = y.view(len(y), -1, 2, half).unbind(2)
    return torch.stack((-other, one), dim=2).view(y.shape)
