"""What one package is in memory: as stored (`Package`), folded (`Adapter`), and in a slot of the device (`Resident`).

Stored parameters are what training and round trips need; folded parameters are what a forward pass needs. A folded
adapter is one flat tensor and a layout into it, so that loading it on the device is one copy, and so that the same
parameter of many adapters can be gathered by offset from one arena.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.manifest import HeadSpec, Manifest

ALIGN = 64  # elements: every parameter starts at a multiple, so that offsets count in ALIGN units


@dataclass(frozen=True, eq=False)
class Package:
    """A native package as stored: manifest and unfolded tensors named `layer/site/parameter`."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Folded:
    """What one method needs at one address: hyper-parameters that change the code path, and folded tensors."""

    method: str
    variant: Hashable
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Span:
    """Where a parameter lies in an adapter's flat tensor: `offset` in ALIGN units, and its shape."""

    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """A method at one address of a folded adapter; blocks with equal `kin` can share an operand."""

    method: str
    variant: Hashable
    spans: Mapping[str, Span]

    @cached_property
    def kin(self) -> "Kin":
        """Method, variant and shapes: adapters that agree here are computed together."""
        return _kin(self.method, self.variant, tuple((name, span.shape) for name, span in self.spans.items()))


@dataclass(frozen=True, eq=False, slots=True)
class Kin:
    """What blocks must agree in to share an operand. One object for all that agree, compared by identity."""

    method: str
    variant: Hashable
    shapes: tuple[tuple[str, tuple[int, ...]], ...]


@lru_cache(maxsize=1 << 14)  # one that was dropped and made again costs an operand of its own, nothing else
def _kin(method: str, variant: Hashable, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Kin:
    return Kin(method, variant, shapes)


@dataclass(frozen=True)
class Insertion:
    """Tokens that prompt tuning puts into a row: `count` tokens before position `at` (0, or 1 for after the first).

    `shift`: the positions of the row's own tokens begin so much later, and tokens put in have positions of their own;
    0: those have the first position, and the row keeps its own. `segments`: whether the row's segment ids count.
    """

    count: int
    at: int
    shift: int = 0
    segments: bool = True


@dataclass(frozen=True, eq=False)
class Adapter:
    """One folded package, immutable. `flat` [n] lies on the host; `head_spans` names `<i>.weight` / `<i>.bias`."""

    manifest: Manifest
    blocks: Mapping[Address, tuple[Block, ...]]
    head: HeadSpec | None
    head_spans: Mapping[str, Span]
    insertion: Insertion | None
    flat: Tensor

    @cached_property
    def signature(self) -> Hashable:
        """Adapters with equal signatures can share every operand, so their rows should touch.

        They have equal blocks, spans and all, since `pack` lays blocks in their order. One object for all that agree.
        """
        return _signature(tuple((place, tuple(block.kin for block in held)) for place, held in self.blocks.items()))

    @cached_property
    def methods(self) -> frozenset[str]:
        """Every method that it has a block of."""
        return frozenset(block.method for blocks in self.blocks.values() for block in blocks)

    @cached_property
    def invocation(self) -> tuple[int, ...] | None:
        """The token ids that call the adapter; None: it acts on every token (`adapters.batch.invocation`)."""
        said = [part.config["invocation"] for part in self.manifest.parts if "invocation" in part.config]
        return tuple(said[0]) if said else None

    @cached_property
    def head_kin(self) -> Hashable:
        """What heads must agree in to be computed together: all but what their outputs are called."""
        assert self.head is not None
        shapes = tuple((name, span.shape) for name, span in self.head_spans.items())
        return _head_kin(replace(self.head, labels=(), name=None, problem_type=""), shapes)

    @property
    def nbytes(self) -> int:
        """Bytes in the host tier, and in a device slot of the same dtype."""
        return self.flat.numel() * self.flat.element_size()


@dataclass(frozen=True, eq=False)
class Resident:
    """An adapter in the device arena: the right to read `arena` from `start` on, while its lease lasts.

    `start` counts in ALIGN units of the arena; `generation` tells one use of the slot from the next.
    """

    adapter: Adapter
    arena: Tensor  # [elements], one for the whole device tier
    start: int
    generation: int

    def view(self, span: Span) -> Tensor:
        """The parameter itself, in place; differentiable where the arena is (training)."""
        size = 1
        for extent in span.shape:
            size *= extent
        return self.arena.narrow(0, (self.start + span.offset) * ALIGN, size).view(span.shape)


@lru_cache(maxsize=1 << 12)  # as above
def _signature(kins: tuple[tuple[Address, tuple[Kin, ...]], ...]) -> Hashable:
    return object()


@lru_cache(maxsize=1 << 12)
def _head_kin(spec: HeadSpec, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Hashable:
    return object()


def pack(
    manifest: Manifest,
    folded: Mapping[Address, tuple[Folded, ...]],
    head: HeadSpec | None,
    head_tensors: Mapping[str, Tensor],
    insertion: Insertion | None,
    dtype: torch.dtype,
) -> Adapter:
    """Lay folded tensors one after another in a flat tensor; differentiable in every tensor."""
    pieces: list[Tensor] = []
    used = 0

    def place(tensor: Tensor) -> Span:
        nonlocal used
        span = Span(used // ALIGN, tuple(tensor.shape))
        pad = -tensor.numel() % ALIGN
        pieces.append(tensor.reshape(-1).to(dtype))
        if pad:
            pieces.append(torch.zeros(pad, dtype=dtype, device=tensor.device))
        used += tensor.numel() + pad
        return span

    blocks = {
        address: tuple(
            Block(item.method, item.variant, MappingProxyType({k: place(v) for k, v in item.tensors.items()}))
            for item in items
        )
        for address, items in folded.items()
    }
    spans = {name: place(tensor) for name, tensor in head_tensors.items()}
    flat = torch.cat(pieces) if pieces else torch.zeros(0, dtype=dtype)
    return Adapter(manifest, MappingProxyType(blocks), head, MappingProxyType(spans), insertion, flat)


def finite(tensor: Tensor) -> bool:
    """Whether floating-point values hold neither NaN nor infinity; an empty tensor holds neither.

    The least and the greatest value say it, since a NaN is both wherever there is one: one pass that writes nothing,
    about fifteen times as fast as `torch.isfinite(tensor).all()` on a CPU.
    """
    return tensor.numel() == 0 or all(math.isfinite(bound.item()) for bound in torch.aminmax(tensor))


def alone(adapter: Adapter) -> Resident:
    """An adapter as the only tenant of its own arena: training, tests and references."""
    return Resident(adapter, adapter.flat, 0, 0)
