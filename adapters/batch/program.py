"""What runs at one address of a pass: the rows' compositions as a short program over segments of tokens.

A row's adapters at an address are a chain of elements: an adapter's block, or a fork into arms that run side by side.
Chains of many rows become steps (S adapters of one kin, one operand) and branches (a program of its own over a
workspace that holds each arm's copy of the tokens, arm after arm). Depth is the place in the chain, so that a language
adapter under 32 task adapters is one operand.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapters.batch.rows import ForkKind
from adapters.batch.workspace import Ranges, Workspace, arena_of, starts_of, touching
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.kernels.upload import upload
from adapters.methods.base import Operand
from adapters.weights import ALIGN, Block, Resident, Span


class Act(NamedTuple):
    """A block in a chain, and for each unit of rows the adapter that brings it; all of them have it at the same place.

    `enters`: it prepares its own input; an arm that is one adapter alone does not. `apart`: it reads the map's input
    and changes the map's output, whatever acted before it (PEFT's sum).
    """

    residents: tuple[Resident, ...]
    block: Block
    enters: bool = True
    apart: bool = False

    @property
    def first(self) -> "Act":
        """The block that acts first."""
        return self

    @property
    def last(self) -> "Act":
        """The block that acts last."""
        return self

    @property
    def kin(self) -> Hashable:
        """Elements of one kin run together."""
        return (self.block.kin, self.enters, self.apart)


@dataclass(frozen=True, eq=False)
class Fan:
    """A fork in a chain: arms that see the same state."""

    kind: ForkKind
    arms: tuple["Chain", ...]
    weights: tuple[float, ...] | None
    splits: tuple[int, ...] | None
    fusion: Act | None

    @property
    def first(self) -> Act:
        """The block that acts first."""
        return self.arms[0][0].first

    @property
    def last(self) -> Act:
        """The block that acts last, in the order written."""
        return self.arms[-1][-1].last

    @property
    def kin(self) -> Hashable:
        """Elements of one kin run together."""
        fusion = None if self.fusion is None else self.fusion.block.kin
        first = (self.first.block.method, self.first.block.variant)
        return (self.kind, len(self.arms), first, self.last.block.kin, fusion)


Element = Act | Fan
Chain = tuple[Element, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """One operand. `first`: its rows carry no state yet. `leaves`: what it makes is applied, and no state goes on.

    `apart`: see `Act`.
    """

    method: str
    operand: Operand
    enters: bool
    first: bool
    leaves: bool
    apart: bool = False

    @property
    def runs(self) -> Runs:
        """The tokens that it acts on."""
        return self.operand.runs


@dataclass(frozen=True, eq=False)
class Branch:
    """A fork of some rows: `program` runs over E tokens, each arm's copies after those of the arm before.

    `spread` [E] tells of each which of the n tokens in `runs` it is; `weight` [E, 1] what it counts in an average.
    `enters` and `leads`: the method that prepares the input, and the operand of each row's last adapter, over n tokens.
    """

    kind: ForkKind
    runs: Runs
    spread: Tensor
    weight: Tensor | None
    arms: int
    program: "Program"
    enters: tuple[str, Hashable]
    leads: tuple[str, Operand]
    fusion: Operand | None
    first: bool
    leaves: bool

    def combine(self, x: Tensor) -> Tensor:
        """The arms' states x [E, width] as one state [n, width]: their mean, their sum, or each in its own place."""
        if self.kind == "split":
            return x.new_zeros(self.runs.count, x.shape[-1]).index_copy(0, self.spread, x)
        if self.weight is not None:
            x = x * self.weight.to(x.dtype)
        return x.view(self.arms, self.runs.count, -1).sum(0)


Program = tuple[Step | Branch, ...]


def flat_steps(program: Program) -> tuple[Step, ...]:
    """The steps of a site where nothing forks (see `chains`)."""
    return tuple(item for item in program if isinstance(item, Step))


class Entry(NamedTuple):
    """Units of rows in a workspace that share a chain but for who brings its blocks; a chain that forks has one unit.

    `units`: each unit's ranges of tokens, side by side; the acts of the chain name one adapter for each.
    """

    units: tuple[Ranges, ...]
    chain: Chain


def chain_of_unit(chain: Chain, unit: int) -> Chain:
    """The chain of one unit alone."""
    return tuple(
        element._replace(residents=element.residents[unit : unit + 1]) if isinstance(element, Act) else element
        for element in chain
    )


def build(entries: Sequence[Entry], space: Workspace, *, leaves: bool = True) -> Program:
    """The program of rows under their chains. `leaves` is False inside of a fork: the fork itself leaves."""
    items: list[Step | Branch] = []
    for depth in range(max((len(entry.chain) for entry in entries), default=0)):
        groups: dict[Hashable, list[tuple[Entry, Element]]] = {}
        for entry in entries:
            if depth < len(entry.chain):
                element = entry.chain[depth]
                apart = isinstance(element, Act) and element.apart
                last = leaves and (apart or depth == len(entry.chain) - 1)
                groups.setdefault((element.kin, last), []).append((entry, element))
        for (_, last), found in groups.items():  # type: ignore[misc]  # the keys were made above
            acts = [(entry, element) for entry, element in found if isinstance(element, Act)]
            fans = [(entry, element) for entry, element in found if isinstance(element, Fan)]
            if acts:
                items.append(_step(acts, space, first=depth == 0, leaves=last))
            else:
                items.append(_branch(fans, space, first=depth == 0, leaves=last))
    return tuple(items)


def _step(found: list[tuple[Entry, Act]], space: Workspace, *, first: bool, leaves: bool) -> Step:
    act = found[0][1]
    return Step(act.block.method, operand_of(found, space), act.enters, first, leaves, act.apart)


def operand_of(found: Sequence[tuple[Entry, Act]], space: Workspace) -> Operand:
    """One operand of blocks of one kin; rows of the same adapter that touch are one segment."""
    held = space.owners([(entry.units, act.residents) for entry, act in found])
    params: dict[str, Stacked] = {}
    for name, span in found[0][1].block.spans.items():
        if len(found) == 1:
            offsets = held.starts + span.offset
        else:
            offsets = held.starts + np.array([act.block.spans[name].offset for _, act in found])[held.named]
        params[name] = Stacked(held.arena, offsets, span.shape, ALIGN)
    return Operand(found[0][1].block.variant, held.runs, params)


def stacked(owners: Sequence[Resident], spans: Sequence[Mapping[str, Span]]) -> dict[str, Stacked]:
    """The parameters of several adapters of one arena, which have spans of the same names and shapes."""
    arena, starts = arena_of(owners), starts_of(owners)
    return {
        name: Stacked(arena, starts + np.array([own[name].offset for own in spans]), span.shape, ALIGN)
        for name, span in spans[0].items()
    }


def _branch(found: list[tuple[Entry, Fan]], space: Workspace, *, first: bool, leaves: bool) -> Branch:
    fan = found[0][1]
    rows = tuple(row for entry, _ in found for row in entry.units[0])
    runs = space.runs(touching(rows), rows)
    taken = iter(runs.rows)
    local = [tuple(next(taken) for _ in entry.units[0]) for entry, _ in found]
    pieces = tuple(
        tuple(piece for (_, one), ranges in zip(found, local, strict=True) for piece in _pieces(one, arm, ranges))
        for arm in range(len(fan.arms))
    )
    inner = space.arms(pieces)
    places = iter(pairwise(inner.starts))
    inside: list[Entry] = []
    weights: list[Tensor] = []
    for arm in range(len(fan.arms)):
        for (_, one), ranges in zip(found, local, strict=True):
            own = tuple(next(places) for _ in _pieces(one, arm, ranges))
            if own:
                inside.append(Entry((own,), one.arms[arm]))
            if one.weights is not None:
                weights.append(
                    torch.full((sum(end - start for start, end in own), 1), one.weights[arm] / len(fan.arms))
                )
    fusion = None
    if fan.fusion is not None:
        fusion = operand_of([(entry, one.fusion) for entry, one in found if one.fusion is not None], space)
    return Branch(
        kind=fan.kind,
        runs=runs,
        spread=inner.spread,
        weight=upload(torch.cat(weights), space.device) if weights else None,
        arms=len(fan.arms),
        program=build(inside, inner.workspace, leaves=False),
        enters=(fan.first.block.method, fan.first.block.variant),
        leads=(fan.last.block.method, operand_of([(entry, one.last) for entry, one in found], space)),
        fusion=fusion,
        first=first,
        leaves=leaves,
    )


def _pieces(fan: Fan, arm: int, rows: Ranges) -> Iterator[tuple[int, int]]:
    """The part of every row that an arm gets; a row that ends before an arm's share gives it nothing.

    No row is longer than its splits: `rows.check_row` refuses it.
    """
    if fan.splits is None:
        yield from rows
        return
    ends = list(accumulate(fan.splits, initial=0))
    for start, end in rows:
        if start + ends[arm] < end:
            yield start + ends[arm], min(start + ends[arm + 1], end)
