"""Lily: Zhong et al. 2024 (arXiv:2407.09946): maps share their matrices, and every row mixes its own B out of several.

    delta x = scaling * sum_e p_e B_e^T A x        p = mean over the row's tokens of softmax(R A x)

A [r, in], B [experts r, out], R [experts, r]. PEFT takes the mean over a whole batch with its padding, so that what a
row gets depends on its neighbours; here it is that of the row alone, which is PEFT's of a batch of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.ragged import enter, row_mean
from adapters.methods.base import BaseMap, Fitting, Operand, Shapes
from adapters.methods.lora import rank_class
from adapters.methods.tuners.tuner import COUNT, NUMBER, Held, Said, Tuner, Widths
from adapters.weights import Block, Folded, Insertion

ROUTER = "router"


def _shapes(said: Said, width: Widths) -> Shapes:
    (wide, out), rank, experts = width, said["rank"], said["experts"]
    return {"A": (rank, wide), "B": (experts * rank, out), ROUTER: (experts, rank)}


def _change(said: Said, held: Held, frozen: BaseMap) -> Folded:
    rank, experts = said["rank"], said["experts"]
    pad, out = rank_class(rank) - rank, held["B"].shape[1]
    up = functional.pad(held["B"].view(experts, rank, out).permute(2, 0, 1), (0, pad)).reshape(out, -1)
    down, router = functional.pad(held["A"], (0, 0, 0, pad)), functional.pad(held[ROUTER], (0, pad))
    return Folded("lily", None, {"down": down, ROUTER: router, "up": up * said["scaling"]})


_STORED = Tuner("lily", {"rank": COUNT, "experts": COUNT, "scaling": NUMBER}, _shapes, _change)


@dataclass(frozen=True)
class Lily:
    """The method; what a row's tokens choose together changes with every token that follows."""

    name: str = "lily"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`."""
        return _STORED.shapes(config, fitting)

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Raises `Misfit`: it is trained by PEFT."""
        return _STORED.initialise(config, fitting, generator)

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The rank padded with zeros to its class, the scaling in the experts [out, experts r]."""
        return _STORED.fold(config, tensors, fitting)

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """As LoRA: its map must take a state, unless it is the `first`."""
        return first or block.spans["down"].shape[1] == block.spans["up"].shape[0]

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the delta of the state below, or of x."""
        down, router, up = (operand.params[name] for name in ("down", ROUTER, "up"))
        runs = operand.runs
        narrow = enter(x if h is None else h, runs, ((down.shape[1], down.shape[0]),)).linear(down, None).leave()
        chosen = enter(narrow, runs, ((router.shape[1], router.shape[0]),)).linear(router, None).leave().softmax(-1)
        shares = row_mean(chosen, runs).index_select(0, runs.row_of_token)
        mixed = (shares[:, :, None] * narrow[:, None]).flatten(1)
        return enter(mixed, runs, ((up.shape[1], up.shape[0]),)).linear(up, None).leave()

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the sum."""
        return y + h

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: no kernel."""
        return False


LILY = Lily()
