"""LoRA: Hu et al. 2021 (arXiv:2106.09685); rsLoRA (arXiv:2312.03732) differs in the scaling alone.

    y = W x + b + scaling * (B A x)      a stack chains the deltas:  s2 B2 A2 (s1 B1 A1 x)

The scaling is folded into B, and the rank is padded with zeros to a class, so that adapters of near ranks share a GEMM.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.ragged import enter
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings, count_in, number_in
from adapters.weights import Folded, Insertion

SITES = ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_in", "ffn_out", "pooler")
RANK_CLASSES = (8, 16, 32, 64)  # ranks above are padded to a multiple of the last


@dataclass(frozen=True)
class Lora:
    """The method."""

    name: str = "lora"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: lora_A [r, in], lora_B [out, r], and lora_bias [out] if it has one."""
        found: Shapes = {}
        for address, (rank, _, bias) in _read(config, fitting).items():
            wide, out = fitting.widths(address.site)
            names: Shapes = {"lora_A": (rank, wide), "lora_B": (out, rank)}
            found |= prefixed(address, names | ({"lora_bias": (out,)} if bias else {}))
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """A is uniform as a linear map's weight, B is zero: the adapter starts as the identity."""
        fresh: dict[str, Tensor] = {}
        for name, shape in self.shapes(config, fitting).items():
            bound = 1 / math.sqrt(shape[-1])
            start = torch.rand(shape, generator=generator) * 2 * bound - bound
            fresh[name] = start if name.endswith("lora_A") else torch.zeros(shape)
        return fresh

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Scaling into B (and the bias), rank padded with zeros to its class."""
        folded: dict[Address, Folded] = {}
        for address, (rank, scaling, bias) in _read(config, fitting).items():
            held = at(tensors, address)
            pad = rank_class(rank) - rank
            parameters = {
                "down": functional.pad(held["lora_A"], (0, 0, 0, pad)),
                "up": functional.pad(held["lora_B"] * scaling, (0, pad)),
            }
            if bias:
                parameters["bias"] = held["lora_bias"] * scaling
            folded[address] = Folded(self.name, None, parameters)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def linear(self, x: Tensor, y: Tensor, weight: Tensor, operand: Operand) -> tuple[Tensor, Tensor]:
        """See `ActsOnLinear`. Below the top of a stack the delta is what the next member sees as its input."""
        down, up = operand.params["down"], operand.params["up"]
        tokens = enter(x, operand.runs, ((down.shape[1], down.shape[0]), (up.shape[1], up.shape[0])))
        delta = tokens.linear(down, None).linear(up, operand.params.get("bias")).leave()
        return (x, y + delta) if operand.final else (delta, y)


LORA = Lora()


def reference(folded: Folded, x: Tensor, y: Tensor) -> Tensor:
    """One row under one adapter: x [tokens, in], y = W x + b [tokens, out]."""
    delta = x @ folded.tensors["down"].T @ folded.tensors["up"].T
    return y + delta + folded.tensors.get("bias", torch.zeros(()))


def rank_class(rank: int) -> int:
    """The least class that holds a rank."""
    return next((c for c in RANK_CLASSES if rank <= c), -(-rank // RANK_CLASSES[-1]) * RANK_CLASSES[-1])


def _read(config: Mapping[str, Any], fitting: Fitting) -> dict[Address, tuple[int, float, bool]]:
    settings = Settings("lora", config, ("sites",))
    found: dict[Address, tuple[int, float, bool]] = {}
    for address, held in settings.sites(fitting, SITES).items():
        where = f"sites.{address}"
        bias = held.get("bias", False)
        if not isinstance(bias, bool):
            settings.wrong(f"{where}.bias must be true or false")
        found[address] = (
            count_in(settings, where, held, "rank"),
            number_in(settings, where, held, "scaling"),
            bool(bias),
        )
    settings.done()
    return found
