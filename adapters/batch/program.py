"""What runs at one address of a pass: the rows' compositions as a short program over segments of tokens.

A row's adapters at an address are a chain of elements: an adapter's block, or a fork into arms that run side by side.
Chains of many rows become steps (S adapters of one kin, one operand) and branches (a program of its own over a
workspace that holds each arm's copy of the tokens, arm after arm). Depth is the place in the chain, so that a language
adapter under 32 task adapters is one operand.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from adapters.batch.rows import ForkKind
from adapters.batch.segments import layout_of
from adapters.errors import InvalidRow
from adapters.kernels.arena import Stacked
from adapters.kernels.interface import Kernels
from adapters.kernels.runs import Runs
from adapters.methods.base import Operand
from adapters.weights import ALIGN, Block, Resident, Span

Ranges = tuple[tuple[int, int], ...]


class Act(NamedTuple):
    """One adapter's block in a chain. `enters`: it prepares its own input; an arm that is one adapter alone does not."""

    resident: Resident
    block: Block
    enters: bool = True

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
        return (self.block.kin, self.enters)


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
    """One operand. `first`: its rows carry no state yet. `leaves`: nothing of its rows acts here afterwards."""

    method: str
    operand: Operand
    enters: bool
    first: bool
    leaves: bool

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


class Entry(NamedTuple):
    """Rows that lie side by side in a workspace and share a chain; `rows` are their ranges of tokens."""

    rows: Ranges
    chain: Chain

    @property
    def bounds(self) -> tuple[int, int]:
        """First token, and one past the last."""
        return self.rows[0][0], self.rows[-1][1]


@dataclass(eq=False)
class Workspace:
    """A run of tokens that programs act on; index tensors over the same rows are made once and shared by all layers."""

    total: int
    device: torch.device
    kernels: Kernels | None = None
    _runs: dict[tuple[Ranges, Ranges], Runs] = field(default_factory=dict)
    _inner: dict[tuple[Ranges, ...], "_Arms"] = field(default_factory=dict)

    def runs(self, bounds: Ranges, rows: Ranges) -> Runs:
        """Segments `bounds` of this workspace, made of `rows`."""
        known = self._runs.get((bounds, rows))
        if known is None:
            inner = _inner_rows(rows)
            known = self._runs[bounds, rows] = Runs(bounds, inner, self.total, self.device, self.kernels)
        return known

    def arms(self, pieces: tuple[Ranges, ...]) -> "_Arms":
        """The workspace of a fork; `pieces` [arms] are ranges of the taken tokens that each arm gets."""
        known = self._inner.get(pieces)
        if known is None:
            flat = [piece for arm in pieces for piece in arm]
            starts = layout_of(end - start for start, end in flat).starts
            index = torch.cat([torch.arange(start, end, device=self.device) for start, end in flat])
            known = self._inner[pieces] = _Arms(Workspace(starts[-1], self.device, self.kernels), starts, index)
        return known


@dataclass(frozen=True, eq=False)
class _Arms:
    workspace: Workspace
    starts: tuple[int, ...]  # [pieces + 1]
    spread: Tensor


def build(entries: Sequence[Entry], space: Workspace, *, leaves: bool = True) -> Program:
    """The program of rows under their chains. `leaves` is False inside of a fork: the fork itself leaves."""
    items: list[Step | Branch] = []
    for depth in range(max((len(entry.chain) for entry in entries), default=0)):
        groups: dict[Hashable, list[tuple[Entry, Element]]] = {}
        for entry in entries:
            if depth < len(entry.chain):
                element, last = entry.chain[depth], leaves and depth == len(entry.chain) - 1
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
    return Step(act.block.method, operand_of(found, space), act.enters, first, leaves)


def operand_of(found: Sequence[tuple[Entry, Act]], space: Workspace) -> Operand:
    """One operand of blocks of one kin; rows of the same adapter that touch are one segment."""
    owners: list[Act] = []
    bounds: list[tuple[int, int]] = []
    for entry, act in found:
        start, end = entry.bounds
        if owners and owners[-1].resident is act.resident and bounds[-1][1] == start:
            bounds[-1] = (bounds[-1][0], end)
        else:
            owners.append(act)
            bounds.append((start, end))
    rows = tuple(row for entry, _ in found for row in entry.rows)
    block = owners[0].block
    params = stacked([(act.resident, act.block.spans) for act in owners])
    return Operand(block.variant, space.runs(tuple(bounds), rows), params)


def stacked(owners: Sequence[tuple[Resident, Mapping[str, Span]]]) -> dict[str, Stacked]:
    """The parameters of several residents of one arena, which have spans of the same names and shapes."""
    arena = owners[0][0].arena
    if any(resident.arena is not arena for resident, _ in owners):
        raise InvalidRow("adapters that are computed together must lie in one arena")
    return {
        name: Stacked(arena, tuple([held.start + spans[name].offset for held, spans in owners]), span.shape, ALIGN)
        for name, span in owners[0][1].items()
    }


def _branch(found: list[tuple[Entry, Fan]], space: Workspace, *, first: bool, leaves: bool) -> Branch:
    fan = found[0][1]
    rows = tuple(row for entry, _ in found for row in entry.rows)
    runs = space.runs(touching(rows), rows)
    taken = iter(runs.rows)
    local = [tuple(next(taken) for _ in entry.rows) for entry, _ in found]
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
                inside.append(Entry(own, one.arms[arm]))
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
        weight=torch.cat(weights).to(space.device) if weights else None,
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


def touching(bounds: Sequence[tuple[int, int]]) -> Ranges:
    """Ranges with those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in bounds:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def _inner_rows(rows: Ranges) -> Ranges:
    starts = layout_of(end - start for start, end in rows).starts
    return tuple(pairwise(starts))
