"""One forward pass's work order: which operands act at which address, for rows of any methods, stacks and heads."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from adapters.architectures.profile import Geometry
from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.batch.rows import Row, check_row
from adapters.batch.segments import RowLayout, layout_of, order_rows, segments_of
from adapters.errors import InvalidRow
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec
from adapters.methods.base import Operand
from adapters.methods.table import METHODS
from adapters.weights import ALIGN, Block, Resident, Span

POOLER = Address(None, "pooler")


@dataclass(frozen=True, eq=False)
class Step:
    """One method's operand at one address and depth."""

    method: str
    operand: Operand


@dataclass(frozen=True, eq=False)
class HeadStep:
    """Rows whose heads have one shape; `runs` are over the rows' pooled states, or over their tokens."""

    spec: HeadSpec
    rows: tuple[int, ...]  # in plan order
    runs: Runs
    params: Mapping[str, Stacked]


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Everything that one pass needs; made once, in plan order (equal stacks side by side)."""

    order: tuple[int, ...]  # plan row -> row as it was given
    rows: tuple[Row, ...]  # in plan order
    layout: RowLayout
    steps: Mapping[Address, tuple[Step, ...]]
    pooled: tuple[int, ...]  # plan rows whose heads read the pooler, in the order of the pooler's input
    heads: tuple[HeadStep, ...]
    device: torch.device


def plan_batch(rows: Sequence[Row], geometry: Geometry, device: torch.device, wants_head: Sequence[bool]) -> BatchPlan:
    """Order the rows, find the segments of every depth, and gather operands per address; raises `InvalidRow`.

    `wants_head[i]` tells whether row i's head is to run.
    """
    for row in rows:
        check_row(row, geometry)
    order = order_rows([_stack_key(row) for row in rows])
    ordered = tuple(rows[i] for i in order)
    layout = layout_of(row.length for row in ordered)
    maker = _Maker(ordered, layout, device)
    heads = tuple(i for i, row in enumerate(ordered) if row.head is not None and wants_head[order[i]])
    pooled = tuple(i for i in heads if _spec(ordered[i]).pooling == "pooler")
    steps = maker.steps(pooled)
    return BatchPlan(order, ordered, layout, steps, pooled, maker.head_steps(heads), device)


@dataclass(eq=False)
class _Maker:
    """Builds the operands of one plan; runs over the same rows are made once and shared by all layers."""

    rows: tuple[Row, ...]
    layout: RowLayout
    device: torch.device
    _runs: dict[Hashable, Runs] = field(default_factory=dict)

    def steps(self, pooled: tuple[int, ...]) -> Mapping[Address, tuple[Step, ...]]:
        """Operands by address, in the order in which they run."""
        found: dict[Address, list[Step]] = {}
        for depth in range(max((len(row.members) for row in self.rows), default=0)):
            groups: dict[Hashable, list[tuple[int, int, Resident, Block]]] = {}
            for segment in segments_of([self._key(row, depth) for row in self.rows]):
                member = self.rows[segment.first].members[depth]
                for address, block in _acting(self.rows[segment.first], member, depth):
                    for first, last, final in self._finals(segment.first, segment.last, depth, address, block):
                        groups.setdefault((address, block.kin, final), []).append((first, last, member, block))
            for (address, _, final), entries in groups.items():  # type: ignore[misc]  # the keys were made above
                step = self._step(address, entries, final, pooled)
                if step is not None:
                    found.setdefault(address, []).append(step)
        order = list(METHODS)
        embed = [a for a in found if SITES[a.site] is SiteKind.EMBED_OUT]
        for address in embed:
            found[address].sort(key=lambda step: order.index(step.method))
        return {address: tuple(items) for address, items in found.items()}

    def head_steps(self, rows: tuple[int, ...]) -> tuple[HeadStep, ...]:
        """Heads of one shape together."""
        groups: dict[Hashable, list[int]] = {}
        for i in rows:
            head = self._head(i)
            shapes = tuple((name, span.shape) for name, span in head.adapter.head_spans.items())
            spec = _spec(self.rows[i])
            groups.setdefault((spec.layers, spec.activation, spec.pooling, shapes), []).append(i)
        return tuple(self._head_step(members) for members in groups.values())

    def _head_step(self, members: list[int]) -> HeadStep:
        spec = _spec(self.rows[members[0]])
        if spec.pooling != "tokens":
            members = sorted(members, key=lambda i: id(self._head(i)))  # pooled states stand in any order
        segments = segments_of([id(self._head(i)) for i in members])
        if spec.pooling == "tokens":
            each = tuple(self.layout.bounds(i) for i in members)
            total = self.layout.tokens
        else:
            each = tuple((i, i + 1) for i in range(len(members)))
            total = len(members)
        bounds = tuple(piece for s in segments for piece in _touching(each[s.first : s.last]))
        owners = [self._head(members[s.first]) for s in segments for _ in _touching(each[s.first : s.last])]
        spans = owners[0].adapter.head_spans
        params = {name: _stacked([(owner, owner.adapter.head_spans[name]) for owner in owners]) for name in spans}
        return HeadStep(spec, tuple(members), Runs(bounds, _inner(each), total, self.device), params)

    def _head(self, i: int) -> Resident:
        head = self.rows[i].head
        assert head is not None
        return head

    def _key(self, row: Row, depth: int) -> Hashable | None:
        if depth >= len(row.members):
            return None
        return (id(row.members[depth]), row.skip_layers)

    def _finals(self, first: int, last: int, depth: int, address: Address, block: Block) -> list[tuple[int, int, bool]]:
        flags = [not _later(self.rows[i], depth, address, block) for i in range(first, last)]
        return [(first + s.first, first + s.last, bool(s.key)) for s in segments_of([int(f) for f in flags])]

    def _step(
        self, address: Address, entries: list[tuple[int, int, Resident, Block]], final: bool, pooled: tuple[int, ...]
    ) -> Step | None:
        if address == POOLER:
            chosen = set(pooled)
            entries = [(i, i + 1, m, b) for first, last, m, b in entries for i in range(first, last) if i in chosen]
            if not entries:
                return None
            place = {row: at for at, row in enumerate(pooled)}
            units = tuple((place[first], place[first] + 1) for first, _, _, _ in entries)
            runs = Runs(units, units, len(pooled), self.device)
        else:
            runs = self._runs_of(tuple((first, last) for first, last, _, _ in entries))
        block = entries[0][3]
        params = {
            name: _stacked([(member, held.spans[name]) for _, _, member, held in entries]) for name in block.spans
        }
        return Step(block.method, Operand(block.variant, runs, params, final))

    def _runs_of(self, rows: tuple[tuple[int, int], ...]) -> Runs:
        known = self._runs.get(rows)
        if known is None:
            starts = self.layout.starts
            bounds = tuple((starts[first], starts[last]) for first, last in rows)
            each = tuple((starts[i], starts[i + 1]) for first, last in rows for i in range(first, last))
            known = self._runs[rows] = Runs(bounds, _inner(each), self.layout.tokens, self.device)
        return known


def _stack_key(row: Row) -> tuple[Hashable, ...]:
    keys: list[Hashable] = []
    for member in row.members:
        keys += [member.adapter.signature, id(member)]
    return (*keys, row.skip_layers)


def _acting(row: Row, member: Resident, depth: int) -> list[tuple[Address, Block]]:
    return [
        (address, block)
        for address, blocks in member.adapter.blocks.items()
        if address.layer is None or address.layer not in row.skip_layers
        for block in blocks
        if depth == 0 or not METHODS[block.method].first_only
    ]


def _later(row: Row, depth: int, address: Address, block: Block) -> bool:
    """Whether a member above acts at the same address; raises `InvalidRow` where the two can not be chained."""
    if SITES[address.site] not in (SiteKind.LINEAR, SiteKind.JUNCTION):
        return False
    above = [b for member in row.members[depth + 1 :] for b in member.adapter.blocks.get(address, ())]
    for other in above:
        if other.method != block.method:
            raise InvalidRow(f"{other.method} can not be stacked on {block.method} at {address}")
        if block.method == "ia3" and other.variant != block.variant:
            raise InvalidRow(f"(IA)3 of inputs and of outputs can not be stacked at {address}")
    if above and block.method == "lora" and block.spans["down"].shape[1] != block.spans["up"].shape[0]:
        raise InvalidRow(f"stacked LoRAs chain their deltas, which needs a square map; {address} is not")
    return bool(above)


def _spec(row: Row) -> HeadSpec:
    spec = None if row.head is None else row.head.adapter.head
    assert spec is not None
    return spec


def _stacked(entries: Sequence[tuple[Resident, Span]]) -> Stacked:
    arena = entries[0][0].arena
    if any(resident.arena is not arena for resident, _ in entries):
        raise InvalidRow("adapters that are computed together must lie in one arena")
    offsets = tuple(resident.start + span.offset for resident, span in entries)
    return Stacked(arena, offsets, entries[0][1].shape, ALIGN)


def _touching(bounds: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges with those that touch made one."""
    merged: list[tuple[int, int]] = []
    for start, end in bounds:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _inner(bounds: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(_pairs(layout_of(end - start for start, end in bounds).starts))


def _pairs(starts: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(starts))
