"""What a method is: the contract between a method's file and the rest of the library.

A method says which tensors it stores (`shapes`), how they start (`initialise`), how they fold into what a pass needs
(`fold`, differentiable), and computes at the kinds of sites that it acts on, for many adapters at once. The functions
per kind are pure: they get the tokens of an operand's segments and return new values for them.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from adapters.architectures.profile import Geometry
from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.weights import Folded, Insertion

Norm = Callable[[Tensor], Tensor]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fitting:
    """The backbone that a part is fitted to: its geometry and its family's record."""

    geometry: Geometry
    architecture: Architecture

    def widths(self, site: str) -> tuple[int, int]:
        """(in, out) of the linear map at a site."""
        return self.architecture.linear_width(site, self.geometry.hidden_size, self.geometry.intermediate_size)


@dataclass(frozen=True, eq=False)
class Operand:
    """One method's work at one address and depth: S adapters of one kin, and their segments.

    `final` is False where another adapter of the same rows acts at this address afterwards (a stack).
    """

    variant: Hashable
    runs: Runs
    params: Mapping[str, Stacked]  # parameter -> [S] adapters
    final: bool


class Method(Protocol):
    """Every method. `first_only` methods act for the bottom member of a stack alone (as in AdapterHub)."""

    @property
    def name(self) -> str:
        """The key in `METHODS` and in manifests."""
        ...

    @property
    def first_only(self) -> bool:
        """Whether only the bottom member of a stack brings it."""
        ...

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """Full names and shapes of the stored tensors; raises `Misfit` with every reason."""
        ...

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh parameters for training, under the names of `shapes`."""
        ...

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """What a pass needs, by address; differentiable in `tensors`."""
        ...

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """Tokens that the method puts into a row, if any."""
        ...


class ActsOnLinear(Protocol):
    """Methods at linear sites."""

    def linear(self, x: Tensor, y: Tensor, weight: Tensor, operand: Operand) -> tuple[Tensor, Tensor]:
        """(x', y') from x [n, in], y = W x + b [n, out] and W [out, in]; x' is what the next depth sees as x."""
        ...


class ActsOnJunction(Protocol):
    """Methods between a sublayer and its norm."""

    def junction(self, h: Tensor, f: Tensor, r: Tensor, norm: Norm, normed: Tensor | None, operand: Operand) -> Tensor:
        """The block's output, or the running state if not final; all [n, hidden].

        h: running state (f at the first depth). f: sublayer output. r: residual. normed: norm(h + r) if known.
        """
        ...


class ActsOnEmbedding(Protocol):
    """Methods on the output of the embedding module."""

    def embed_out(self, x: Tensor, operand: Operand) -> Tensor:
        """x' from x [n, width]; tokens of a row include those that were inserted."""
        ...


class ActsOnAttention(Protocol):
    """Methods that prepend keys and values."""

    def keys_values(self, operand: Operand, segment: int) -> Tensor:
        """[2, tokens, hidden]: keys and values that every row of a segment sees in front of its own."""
        ...


def prefixed(address: Address, names: Mapping[str, tuple[int, ...]]) -> Shapes:
    """Full tensor names at an address."""
    return {f"{address}/{name}": shape for name, shape in names.items()}


def at(tensors: Mapping[str, Tensor], address: Address) -> dict[str, Tensor]:
    """The tensors stored at an address, by parameter name."""
    head = f"{address}/"
    return {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}
