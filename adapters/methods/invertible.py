"""Invertible adapters of MAD-X (arXiv:2005.00052): the additive coupling of NICE (arXiv:1410.8516) on the embeddings.

    y1 = x1 + F(x2);  y2 = x2 + G(y1)      x1, x2: the halves of x;  F, G: linear, activation, linear

A masked language model's head undoes it before it reads the vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.kernels.ragged import Ragged, enter
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings, activation
from adapters.weights import Folded, Insertion

ADDRESS = Address(None, "embed_out")


@dataclass(frozen=True)
class Invertible:
    """The method. Only the bottom member of a stack brings it, as in AdapterHub."""

    name: str = "invertible"
    first_only: bool = True

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. F and G: `0.weight` [w, E/2], `2.weight` [E/2, w], and biases."""
        _, width = _read(config, fitting)
        half = fitting.geometry.embedding_size // 2
        names: Shapes = {}
        for net in "FG":
            names |= {f"{net}.0.weight": (width, half), f"{net}.0.bias": (width,)}
            names |= {f"{net}.2.weight": (half, width), f"{net}.2.bias": (half,)}
        return prefixed(ADDRESS, names)

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """BERT's initialisation: near the identity."""
        return {
            name: torch.zeros(shape) if name.endswith("bias") else torch.randn(shape, generator=generator) * 0.02
            for name, shape in self.shapes(config, fitting).items()
        }

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The parameters as they are."""
        non_linearity, _ = _read(config, fitting)
        held = {name: tensor for name, tensor in at(tensors, ADDRESS).items() if name[:2] in ("F.", "G.")}
        return {ADDRESS: Folded(self.name, non_linearity, held)}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def embed_out(self, x: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnEmbedding`."""
        x1, x2 = x.chunk(2, dim=-1)
        y1 = x1 + _net("F", x2, operand)
        return torch.cat([y1, x2 + _net("G", y1, operand)], dim=-1)

    def invert(self, x: Tensor, operand: Operand) -> Tensor:
        """See `InvertsEmbedding`: y2 - G(y1) is x2, and y1 - F(x2) is x1."""
        y1, y2 = x.chunk(2, dim=-1)
        x2 = y2 - _net("G", y1, operand)
        return torch.cat([y1 - _net("F", x2, operand), x2], dim=-1)


INVERTIBLE = Invertible()


def reference(folded: Folded, x: Tensor) -> Tensor:
    """One row [tokens, width]."""
    t, act = folded.tensors, activation(str(folded.variant))
    x1, x2 = x.chunk(2, dim=-1)
    y1 = x1 + functional.linear(act(functional.linear(x2, t["F.0.weight"], t["F.0.bias"])), t["F.2.weight"], t["F.2.bias"])  # fmt: skip
    y2 = x2 + functional.linear(act(functional.linear(y1, t["G.0.weight"], t["G.0.bias"])), t["G.2.weight"], t["G.2.bias"])  # fmt: skip
    return torch.cat([y1, y2], dim=-1)


def _net(net: str, x: Tensor, operand: Operand) -> Tensor:
    p = operand.params
    width, half = p[f"{net}.0.weight"].shape
    tokens: Ragged = enter(x, operand.runs, ((half, width), (width, half)))
    hidden = tokens.linear(p[f"{net}.0.weight"], p[f"{net}.0.bias"]).map(activation(str(operand.variant)))
    return hidden.linear(p[f"{net}.2.weight"], p[f"{net}.2.bias"]).leave()


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[str, int]:
    settings = Settings("invertible", config, ("kind", "non_linearity", "width"))
    settings.choice("kind", ("nice",))
    non_linearity, width = settings.activation("non_linearity"), settings.count("width")
    if fitting.geometry.embedding_size % 2:
        settings.wrong("the embedding width is odd")
    settings.done()
    return non_linearity, width
