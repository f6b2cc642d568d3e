"""What a method is: the contract between a method's file and the rest of the library.

A method says which tensors it stores (`shapes`), how they start (`initialise`), how they fold into what a pass needs
(`fold`, differentiable), and computes at the kinds of sites that it acts on, for many adapters at once. The functions
per kind are pure: they get the tokens of an operand's segments and return new values for them. Which row's adapters
follow one another, or run side by side, is the plan's business (`adapters.batch`): a method sees one adapter per token.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture
from adapters.architectures.sites import TABLES, Address
from adapters.kernels.arena import Stacked
from adapters.kernels.norms import FrozenNorm
from adapters.kernels.runs import Runs
from adapters.weights import Block, Folded, Insertion

Shapes = dict[str, tuple[int, ...]]


class BaseMap(NamedTuple):
    """The frozen map at a linear site: W [out, in], and b [out] (zeros where it has none); or a norm's w, b [width]."""

    weight: Tensor
    bias: Tensor


BaseMaps = Callable[[Address], BaseMap]


@dataclass(frozen=True)
class Fitting:
    """The backbone that a part is fitted to: its geometry, its family's record, and, where one folds, its weights."""

    geometry: Geometry
    architecture: Architecture
    base: BaseMaps | None = None
    biases: Mapping[Address, Tensor] = field(default_factory=dict)  # of another part, in the place of frozen ones

    def widths(self, site: str) -> tuple[int, int]:
        """(in, out) of the linear map at a site; a table of vectors maps from its entries."""
        if site in TABLES:
            return self.geometry.rows(site), self.geometry.table_width(site)
        return self.geometry.linear_width(site)

    def weight(self, address: Address) -> Tensor:
        """The frozen W [out, in] at a linear site, for folds that depend on it (DoRA); ones where no backbone is loaded.

        A checker sizes and bounds a package without the backbone's weights; an engine folds with them.
        """
        if self.base is None:
            wide, out = self.widths(address.site)
            return torch.ones(out, wide)
        weights = [self.base(part).weight for part in self.architecture.parts(address)]
        return weights[0] if len(weights) == 1 else torch.cat(weights)

    def bias(self, address: Address) -> Tensor:
        """The b [out] that a part finds at a linear site, zeros where the map has none; as `weight`."""
        if address in self.biases:
            return self.biases[address]
        if self.base is None:
            return torch.zeros(self.widths(address.site)[1])
        biases = [self.base(part).bias for part in self.architecture.parts(address)]
        return biases[0] if len(biases) == 1 else torch.cat(biases)

    def bias_change(self, address: Address, bias: Tensor) -> Tensor:
        """What b' [out] in the place of the frozen bias adds to the output of the map."""
        own = bias.to(torch.promote_types(bias.dtype, torch.float32))
        return own - self.bias(address).to(own)

    def norm_width(self, site: str) -> int:
        """Width of the norm at a site."""
        if site in ("query_norm", "key_norm"):
            return self.geometry.head_width
        return self.geometry.embedding_size if site == "embed_norm" else self.geometry.hidden_size

    def norm(self, address: Address) -> BaseMap:
        """The frozen weight and bias [width] of a norm, zeros where it has no bias; as `weight`."""
        if self.base is not None:
            return self.base(address)
        width = self.norm_width(address.site)
        return BaseMap(torch.ones(width), torch.zeros(width))


@dataclass(frozen=True, eq=False)
class Operand:
    """One method's work in one place of a plan: S adapters of one kin, and their segments of tokens."""

    variant: Hashable
    runs: Runs
    params: Mapping[str, Stacked]  # parameter -> [S] adapters


class Method(Protocol):
    """Every method. `first_only` methods act for the first adapter of a composition alone (as in AdapterHub)."""

    @property
    def name(self) -> str:
        """The key in `METHODS` and in manifests."""
        ...

    @property
    def first_only(self) -> bool:
        """Whether only the first adapter of a composition brings it."""
        ...

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """Full names and shapes of the stored tensors; raises `Misfit` with every reason."""
        ...

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh parameters for training, under the names of `shapes`."""
        ...

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """What a pass needs, by address; differentiable in `tensors`.

        `Folded.method` names the method that computes it, which may be another one: Compacter folds into bottlenecks.
        """
        ...

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """Tokens that the method puts into a row, if any."""
        ...


@runtime_checkable
class ActsOnLinear(Protocol):
    """Methods at linear sites. A composition carries one running state per token from adapter to adapter."""

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """The running state [n, out] after this adapter; `h` is the state before it, None at the first.

        x: the map's input [n, in]. weight: W [out, in] of the frozen map.
        """
        ...

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """Whether it can follow another adapter of a chain (its input is then the state [n, out]).

        If `first`: whether another one can follow it.
        """
        ...

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """The map's output [n, out] from y = W x + b [n, out] and the state; the last adapter of a row does this."""
        ...

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """`change` and `apply` for rows with this adapter alone, written into y [tokens, out] of the whole batch.

        False, and nothing written, where no kernel does both; x is [tokens, in].
        """
        ...


@dataclass(frozen=True, eq=False)
class Meeting:
    """What meets at a junction, for the tokens of one operand: f sublayer output, r residual, all [n, hidden].

    `norm` is the frozen norm after the junction, None in families that have none there. `normed`: norm(f + r), where
    it is known already and the state is still f. `adds`: whether the residual and norm that follow are the adapter's
    to apply (`False`: the model adds r itself, and what leaves takes the place of f). `removable`: whether what the
    model adds is r, for adapters that add none.
    """

    f: Tensor
    r: Tensor
    norm: FrozenNorm | None
    normed: Tensor | None
    adds: bool
    removable: bool = False


@runtime_checkable
class ActsOnJunction(Protocol):
    """Methods between a sublayer and its norm, in the three stages that AdapterHub's compositions are made of."""

    def enter(self, h: Tensor, meeting: Meeting, variant: Hashable) -> tuple[Tensor, Tensor]:
        """(input, residual) of an adapter from the running state h [n, hidden]; h is f at the first one."""
        ...

    def run(self, x: Tensor, residual: Tensor, operand: Operand) -> tuple[Tensor, Tensor]:
        """(new running state, the adapter's own contribution, which AdapterFusion attends to), both [n, hidden]."""
        ...

    def leave(self, h: Tensor, meeting: Meeting, variant: Hashable) -> Tensor:
        """The block's output from the last running state; the last adapter of a row does this."""
        ...

    def settle(self, h: Tensor, meeting: Meeting, out: Tensor, operand: Operand, *, leaves: bool) -> bool:
        """All stages in one call, for the whole batch: h, out [tokens, hidden], of which the operand's rows are written.

        The new running state, or the block's output where the adapter `leaves`; out may be h. False, and nothing
        written, where no kernel computes this form.
        """
        ...

    def query(self, h: Tensor, x: Tensor, meeting: Meeting, variant: Hashable, *, before_norm: bool) -> Tensor:
        """What AdapterFusion asks with: the running state before, or the adapter's input after, the first norm."""
        ...


@runtime_checkable
class ActsOnEmbedding(Protocol):
    """Methods on the output of the embedding module (`embed_out`), or on the word vectors before it (`embed_lookup`)."""

    def embed_out(self, x: Tensor, operand: Operand) -> Tensor:
        """x' from x [n, width]; tokens of a row include those that were inserted."""
        ...


@runtime_checkable
class ActsOnNorm(Protocol):
    """Methods in the place of a norm."""

    def normalise(self, x: Tensor, norm: FrozenNorm, operand: Operand) -> Tensor:
        """y' from x, the input of the frozen norm: [n, width], or [n, heads, width] where it norms head by head."""
        ...


@runtime_checkable
class InvertsEmbedding(Protocol):
    """Methods on the embeddings that a language model's head has to undo before it reads the vocabulary."""

    def invert(self, x: Tensor, operand: Operand) -> Tensor:
        """x [n, width] with `embed_out(x)` given."""
        ...


@runtime_checkable
class ActsOnAttention(Protocol):
    """Methods that prepend keys and values."""

    def keys_values(self, operand: Operand, segment: int) -> Tensor:
        """[2, tokens, width]: keys and values that every row of a segment sees in front of its own."""
        ...

    def gates(self, x: Tensor, operand: Operand) -> Tensor | None:
        """[rows, 2]: factors of keys and values of every row, from the attention's input x [n, hidden]; None for 1."""
        ...


@runtime_checkable
class AttendsBeside(Protocol):
    """Methods with keys and values of their own, that are attended to apart from a layer's: nothing is prepended."""

    def beside(self, q: Tensor, operand: Operand) -> Tensor:
        """[n, heads * width]: what the layer's queries [n, heads, width] find, to be added to the attention's output."""
        ...

    def past_map(self, operand: Operand) -> bool:
        """Whether that is added as it is, and does not pass the frozen output map first."""
        ...


@runtime_checkable
class ActsByPlace(Protocol):
    """Methods that act on some places of a row alone, at its beginning or at its end."""

    def settled(self, block: Block, seen: int) -> bool:
        """Whether a block has done all that it does once the first `seen` tokens of a row are there.

        False: what it does depends on the tokens that follow. Inserted tokens are among those seen.
        """
        ...


@runtime_checkable
class ActsOnLayer(Protocol):
    """Methods on the output of a layer."""

    def layer_out(self, h: Tensor, operand: Operand) -> Tensor:
        """h' from h [n, hidden]; `operand.runs.rows` tells where each row lies."""
        ...


def prefixed(address: Address, names: Mapping[str, tuple[int, ...]]) -> Shapes:
    """Full tensor names at an address."""
    return {f"{address}/{name}": shape for name, shape in names.items()}


def at(tensors: Mapping[str, Tensor], address: Address) -> dict[str, Tensor]:
    """The tensors stored at an address, by parameter name."""
    head = f"{address}/"
    return {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}


def wide_at(tensors: Mapping[str, Tensor], address: Address, least: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The tensors stored at an address, at least as wide: products of halves would be rounded before they are used."""
    held = at(tensors, address)
    return {name: tensor.to(torch.promote_types(tensor.dtype, least)) for name, tensor in held.items()}
