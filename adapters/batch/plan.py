"""One forward pass's work order: which programs run at which address, for rows of any methods, compositions and heads."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import torch
from torch import Tensor

from adapters.architectures.profile import Geometry
from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.batch.chains import chains_of, key_of, shape_of
from adapters.batch.program import Act, Chain, Entry, Program, build, chain_of_unit, operand_of, stacked
from adapters.batch.rows import EMBED_OUT, Row, check_row, own_tokens, pooled_token
from adapters.batch.segments import RowLayout, Segment, layout_of, order_rows, segments_of
from adapters.batch.workspace import Ranges, Workspace
from adapters.errors import InvalidRow, InvalidRows
from adapters.kernels.arena import Stacked
from adapters.kernels.interface import Kernels
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec
from adapters.methods.base import Operand
from adapters.methods.table import INVERSE
from adapters.weights import Resident

POOLER = Address(None, "pooler")
Space = Callable[[int], Workspace]  # of so many tokens
RELATIVE = ("attn_q", "attn_k")  # the maps that families with relative positions also apply to the position table


@dataclass(frozen=True, eq=False)
class HeadStep:
    """Rows whose heads have one shape. `places` [n] tells which states the heads read: tokens, or first tokens.

    `runs` are over these n states; `ranges` are each row's among them. `undo` is the inverse of the rows' invertible
    adapters, for heads over the vocabulary.
    """

    spec: HeadSpec
    rows: tuple[int, ...]  # in plan order
    places: Tensor
    ranges: Ranges
    runs: Runs
    params: Mapping[str, Stacked]
    undo: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True, eq=False)
class Relative:
    """What adapters make of the table of relative positions: one copy of its `length` tokens per unit of rows.

    Unit 0 is the bare table. `unit_of_row` [rows] in plan order.
    """

    length: int
    units: int
    unit_of_row: tuple[int, ...]
    programs: Mapping[Address, Program]


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """Everything that one pass needs; made once, in plan order (equal stacks side by side)."""

    order: tuple[int, ...]  # plan row -> row as it was given
    rows: tuple[Row, ...]  # in plan order
    layout: RowLayout
    steps: Mapping[Address, Program]
    relative: Relative | None
    pooled: tuple[int, ...]  # plan rows whose heads read the pooler, in the order of the pooler's input
    heads: tuple[HeadStep, ...]
    device: torch.device
    kernels: Kernels | None = None

    @cached_property
    def renormed(self) -> tuple[Address, ...]:
        """The norms that adapters replace for some rows."""
        return tuple(address for address in self.steps if SITES[address.site] is SiteKind.NORM)


@dataclass(frozen=True, eq=False)
class _Cohort:
    """Units of plan rows, `first` .. `last`-1 each, whose chains differ only in who brings the blocks."""

    units: tuple[Segment, ...]
    chains: Mapping[Address, Chain]


def plan_batch(
    rows: Sequence[Row],
    geometry: Geometry,
    device: torch.device,
    wants_head: Sequence[bool],
    relative: int = 0,
    kernels: Kernels | None = None,
) -> BatchPlan:
    """Order the rows, find their chains, and gather programs per address.

    Raises `InvalidRows` with every row that can not run, before anything is gathered for the others.

    `wants_head[i]` tells whether row i's head is to run. `relative`: tokens of the backbone's table of relative
    positions, if adapters at its queries and keys act on it too.
    """
    keys = [key_of(row) for row in rows]
    order = order_rows(keys)
    ordered = tuple(rows[i] for i in order)
    cohorts = _cohorts(rows, order, keys, geometry)
    layout = layout_of(row.length for row in ordered)
    wanted = tuple(i for i, row in enumerate(ordered) if row.head is not None and wants_head[order[i]])
    pooled = tuple(i for i in wanted if _spec(ordered[i]).pooling == "pooler")
    space = partial(Workspace, device=device, kernels=kernels)
    steps = _steps(cohorts, layout, pooled, space)
    table = _relative(cohorts, layout.rows, relative, space) if relative else None
    heads = _head_steps(ordered, wanted, layout, pooled, geometry, space)
    return BatchPlan(order, ordered, layout, steps, table, pooled, heads, device, kernels)


def _cohorts(
    rows: Sequence[Row], order: Sequence[int], keys: Sequence[Hashable], geometry: Geometry
) -> tuple[_Cohort, ...]:
    """Rows of one key are a unit, side by side in plan order; raises `InvalidRows`."""
    faults: dict[int, InvalidRow] = {}
    for i, row in enumerate(rows):
        try:
            check_row(row, geometry)
        except InvalidRow as error:
            faults[i] = error
    cohorts: list[_Cohort] = []
    for units in _alike(segments_of([keys[i] for i in order]), [shape_of(rows[i]) for i in order]):
        try:
            cohorts.append(_Cohort(units, chains_of([rows[order[unit.first]] for unit in units])))
        except InvalidRow as error:
            faults |= dict.fromkeys(order[units[0].first : units[-1].last], error)
    if faults:
        raise InvalidRows(dict(sorted(faults.items())))
    return tuple(cohorts)


def _alike(units: Sequence[Segment], shapes: Sequence[Hashable | None]) -> list[tuple[Segment, ...]]:
    """Neighbours of one shape together."""
    found: list[list[Segment]] = []
    for unit in units:
        shape = shapes[unit.first]
        if found and shape is not None and shape == shapes[found[-1][0].first]:
            found[-1].append(unit)
        else:
            found.append([unit])
    return [tuple(held) for held in found]


def _steps(
    cohorts: Sequence[_Cohort], layout: RowLayout, pooled: tuple[int, ...], space: Space
) -> dict[Address, Program]:
    tokens, pools = space(layout.tokens), space(len(pooled))
    units = [tuple([tuple(map(layout.bounds, range(u.first, u.last))) for u in cohort.units]) for cohort in cohorts]
    found: dict[Address, Program] = {}
    for address in dict.fromkeys(address for cohort in cohorts for address in cohort.chains):
        if address == POOLER:
            entries = _pooling(cohorts, pooled)
            if entries:
                found[address] = build(entries, pools)
            continue
        held = zip(units, cohorts, strict=True)
        found[address] = build([Entry(own, c.chains[address]) for own, c in held if address in c.chains], tokens)
    return found


def _pooling(cohorts: Sequence[_Cohort], pooled: tuple[int, ...]) -> list[Entry]:
    """Those that act on the pooler's map, unit by unit: a row whose head does not read it has no place there."""
    place = {row: (at, at + 1) for at, row in enumerate(pooled)}
    found: list[Entry] = []
    for cohort in cohorts:
        for at, unit in enumerate(cohort.units if POOLER in cohort.chains else ()):
            held = tuple(place[row] for row in range(unit.first, unit.last) if row in place)
            if held:
                found.append(Entry((held,), chain_of_unit(cohort.chains[POOLER], at)))
    return found


def _relative(cohorts: Sequence[_Cohort], rows: int, length: int, space: Space) -> Relative:
    """Units whose adapters act on queries or keys get a copy of the table of their own."""
    unit_of_row, tables = [0] * rows, 1
    acting: list[tuple[tuple[Ranges, ...], _Cohort]] = []
    for cohort in cohorts:
        if any(address.site in RELATIVE for address in cohort.chains):
            for at, unit in enumerate(cohort.units, tables):
                unit_of_row[unit.first : unit.last] = [at] * (unit.last - unit.first)
            own = range(tables, tables + len(cohort.units))
            acting.append((tuple(((at * length, (at + 1) * length),) for at in own), cohort))
            tables = own.stop
    whole = space(length * tables)
    programs: dict[Address, Program] = {}
    for address in dict.fromkeys(a for _, cohort in acting for a in cohort.chains if a.site in RELATIVE):
        entries = [Entry(own, cohort.chains[address]) for own, cohort in acting if address in cohort.chains]
        programs[address] = build(entries, whole)
    return Relative(length, tables, tuple(unit_of_row), programs)


def _head_steps(
    rows: Sequence[Row],
    wanted: tuple[int, ...],
    layout: RowLayout,
    pooled: tuple[int, ...],
    geometry: Geometry,
    space: Space,
) -> tuple[HeadStep, ...]:
    """Heads of one shape together."""
    groups: dict[Hashable, list[int]] = {}
    for i in wanted:
        inverse = _inverse(rows[i])
        kin = (_head(rows[i]).adapter.head_kin, None if inverse is None else inverse.block.kin)
        groups.setdefault(kin, []).append(i)
    place = {row: at for at, row in enumerate(pooled)}
    for i in wanted:
        pooling = _spec(rows[i]).pooling
        if pooling not in ("pooler", "tokens"):
            place[i] = layout.starts[i] + pooled_token(rows[i], geometry, pooling)
    return tuple(_head_step(rows, members, layout, place, space) for members in groups.values())


def _head_step(
    rows: Sequence[Row], members: list[int], layout: RowLayout, state_of: Mapping[int, int], space: Space
) -> HeadStep:
    members = sorted(members, key=lambda i: id(_head(rows[i])))  # what heads read stands in any order
    spec = _spec(rows[members[0]])
    if spec.pooling == "tokens":
        parts = [_places(rows[i], layout.starts[i]) for i in members]
        places, starts = torch.cat(parts), layout_of(map(len, parts)).starts
    else:  # one state per row
        places, starts = torch.tensor([state_of[i] for i in members]), tuple(range(len(members) + 1))
    ranges = tuple(pairwise(starts))
    states = space(starts[-1])
    segments = segments_of([id(_head(rows[i])) for i in members])
    owners = [_head(rows[members[segment.first]]) for segment in segments]
    bounds = tuple((starts[segment.first], starts[segment.last]) for segment in segments)
    params = stacked(owners, [owner.adapter.head_spans for owner in owners])
    undo = _undo([rows[i] for i in members], ranges, states)
    return HeadStep(spec, tuple(members), places.to(states.device), ranges, states.runs(bounds, ranges), params, undo)


def _places(row: Row, start: int) -> Tensor:
    """The states that a per-token head reads: all of the row, or those of the own tokens that were asked for.

    Words are made of own tokens.
    """
    if row.positions is not None:
        return torch.from_numpy(own_tokens(row)[list(row.positions)] + start)
    if row.word_starts is not None:
        return torch.from_numpy(own_tokens(row) + start)
    return torch.arange(start, start + row.length)


def _inverse(row: Row) -> Act | None:
    """The first adapter's invertible block, where the row's head reads the vocabulary."""
    if row.first is None or _spec(row).vocabulary is None or not _spec(row).inverse:
        return None
    blocks = row.first.adapter.blocks.get(EMBED_OUT, ())
    return next((Act((row.first,), block) for block in blocks if block.method in INVERSE), None)


def _undo(rows: Sequence[Row], ranges: Ranges, space: Workspace) -> Callable[[Tensor], Tensor] | None:
    acts = [_inverse(row) for row in rows]
    found = [(Entry(((held,),), (act,)), act) for act, held in zip(acts, ranges, strict=True) if act is not None]
    if not found:
        return None
    return partial(_invert, found[0][1].block.method, operand_of(found, space))


def _invert(method: str, operand: Operand, x: Tensor) -> Tensor:
    return INVERSE[method].invert(x, operand)


def _head(row: Row) -> Resident:
    assert row.head is not None
    return row.head


def _spec(row: Row) -> HeadSpec:
    spec = None if row.head is None else row.head.adapter.head
    assert spec is not None
    return spec
