"""A plan that a captured pass runs under: its tables lie in tensors that stay, and the host knows nothing of its rows.

What a pass is made of (`Outline.key`) is told apart from what it is given (`tables`): bounds of segments, starts of rows
and places of parameters, which every batch of the key writes anew before the pass is replayed. Whatever reads those on
the host would be captured as a constant, and be one tenant's in the answers of the next: here it raises `ReadOnHost`.
So the methods themselves say, by how they compute, whether a pass with them can be captured.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.batch.attention import Packing
from adapters.batch.plan import POOLER, BatchPlan
from adapters.batch.program import Program, Step
from adapters.batch.segments import layout_of
from adapters.batch.tables import LOOKED_UP, PATCHES
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.kernels.triton.graphs import Shape, padded_bounds, padded_offsets, padded_starts, shape_of
from adapters.kernels.triton.tiles import lanes
from adapters.methods.base import Operand
from adapters.methods.prompt_tuning import BEFORE

AROUND = (*LOOKED_UP, BEFORE, POOLER)  # what runs before the model or after it, and is not captured

Blinded = TypeVar("Blinded", bound="_Blind")


class ReadOnHost(RuntimeError):
    """A pass reads on the host what the next batch has others of; it can not be captured."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What a plan has in common with those that one captured pass serves, and where it differs."""

    shape: Shape
    programs: Mapping[Address, tuple[Step, ...]]  # in an order that equal keys share
    whole: frozenset[Address]  # junctions where every row has an adapter
    arena: Tensor | None

    @property
    def key(self) -> Hashable:
        """Two plans of one key are one pass over other tables."""
        arena = None if self.arena is None else (self.arena.data_ptr(), self.arena.numel(), self.arena.dtype)
        steps = tuple((address, tuple(map(_kin, steps))) for address, steps in self.programs.items())
        return self.shape, arena, self.whole, steps


def outline_of(plan: BatchPlan) -> Outline | None:
    """What to capture for a plan; None for one that is too large, or that no captured pass can serve.

    Such are forks, adapters in several arenas, decoders behind an encoder, and layers in orders of the rows' own.
    """
    shape = shape_of(plan.layout.tokens, plan.layout.rows)
    inside = {address: program for address, program in plan.steps.items() if address not in AROUND}
    steps = {address: _steps(inside[address]) for address in sorted(inside, key=str)}
    arenas = [held.arena for own in steps.values() for step in own for held in step.operand.params.values()]
    if (
        shape is None
        or plan.relative is not None
        or plan.target is not None
        or plan.lanes
        or PATCHES in plan.steps
        or any(len(own) < len(inside[address]) for address, own in steps.items())
        or any(arena is not arenas[0] for arena in arenas)
    ):
        return None
    whole = frozenset(a for a, own in steps.items() if _at_junction(a) and _left(own) == plan.layout.tokens)
    return Outline(shape, steps, whole, arenas[0] if arenas else None)


def tables(plan: BatchPlan, outline: Outline) -> dict[str, NDArray[np.generic]]:
    """All that the batches of a key differ in, but for their inputs: `places` int32, and `offsets` int64 in elements."""
    bounds, offsets = [], []
    for step in _all(outline):
        segments = _segments(step)
        bounds.append(padded_bounds(step.runs.bounds, segments).reshape(-1))
        offsets += [padded_offsets(held.offsets * held.align, segments) for held in step.operand.params.values()]
    found: dict[str, NDArray[np.generic]] = {
        "places": np.concatenate([*bounds, padded_starts(plan.layout.starts, outline.shape)])
    }
    return found | ({"offsets": np.concatenate(offsets)} if offsets else {})


def fixed(
    plan: BatchPlan, outline: Outline, packing: Packing, given: Mapping[str, Tensor]
) -> tuple[BatchPlan, Packing]:
    """The plan over `tables` that lie on the device, and its packing."""
    segments = [_segments(step) for step in _all(outline)]
    counts = [2 * count for count in segments]
    *bounds, starts = torch.split(given["places"], [*counts, len(given["places"]) - sum(counts)])
    named = [held for step in _all(outline) for held in step.operand.params.values()]
    sizes = [_segments(step) for step in _all(outline) for _ in step.operand.params]
    offsets = iter(torch.split(given["offsets"], sizes) if named else ())
    places = iter(bounds)
    steps = {
        address: tuple(
            _step(step, next(places).view(-1, 2), offsets, outline.shape, count)
            for step, count in zip(own, _counts(own, outline, address), strict=True)
        )
        for address, own in outline.programs.items()
    }
    bare = replace(plan, order=(), rows=(), layout=layout_of(()), steps=steps, pooled=(), heads=())
    known = {"device": packing.device, "kernels": packing.kernels, "causal": packing.causal, "starts": starts}
    return bare, _blind(_Packing, **known)


def _step(step: Step, places: Tensor, offsets: Iterator[Tensor], shape: Shape, count: int) -> Step:
    own = step.runs
    runs = _blind(_Runs, total=shape.tokens, count=count, device=own.device, kernels=own.kernels, places=places)
    params: dict[str, Stacked] = {
        name: _blind(_Stacked, arena=held.arena, shape=held.shape, align=held.align, starts=next(offsets))
        for name, held in step.operand.params.items()
    }
    return replace(step, operand=Operand(step.operand.variant, runs, params))


def _counts(steps: tuple[Step, ...], outline: Outline, address: Address) -> Iterator[int]:
    """Tokens of each: only their sum over those that leave is read, to know whether every row has an adapter."""
    left = outline.shape.tokens if address in outline.whole else 0
    for step in steps:
        yield left if step.leaves else 0
        left = 0 if step.leaves else left


def _steps(program: Program) -> tuple[Step, ...]:
    """The steps of a program without its forks, those that come first in an order of their own: they share no row."""
    steps = [item for item in program if isinstance(item, Step)]
    return tuple(sorted(steps, key=lambda step: repr(_kin(step)) if step.first else "~"))


def _kin(step: Step) -> Hashable:
    shapes = tuple((name, held.shape) for name, held in step.operand.params.items())
    return (
        step.method,
        step.operand.variant,
        shapes,
        step.enters,
        step.first,
        step.leaves,
        step.apart,
        _segments(step),
    )


def _segments(step: Step) -> int:
    return lanes(len(step.runs.bounds))


def _all(outline: Outline) -> Iterator[Step]:
    return (step for steps in outline.programs.values() for step in steps)


def _at_junction(address: Address) -> bool:
    return SITES[address.site] is SiteKind.JUNCTION


def _left(steps: tuple[Step, ...]) -> int:
    return sum(step.runs.count for step in steps if step.leaves)


class _Blind:
    """Knows what it was made with, and nothing of what follows from a batch."""

    def __getattr__(self, name: str) -> Any:
        raise ReadOnHost(f"{type(self).__name__[1:]}.{name}: a captured pass knows its rows on the device alone")


class _Runs(_Blind, Runs):
    pass


class _Stacked(_Blind, Stacked):
    pass


class _Packing(_Blind, Packing):
    pass


def _blind(kind: type[Blinded], **known: Any) -> Blinded:
    """One that was never initialised: its fields are missing, and so is all that would be found from them."""
    made = object.__new__(kind)
    made.__dict__.update(known)
    return made
