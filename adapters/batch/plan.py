"""One forward pass's work order: which programs run at which address, for rows of any methods, compositions and heads."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.architectures.sites import DISTANCES, SITES, Address, SiteKind
from adapters.batch.chains import chains_of, check_members, key_of, shape_of
from adapters.batch.head_steps import HeadStep, Space, head_steps, spec_of
from adapters.batch.invocation import called, check_alone
from adapters.batch.program import Chain, Entry, Program, build, chain_of_unit
from adapters.batch.rows import Ids, Row, check_row, own_tokens
from adapters.batch.segments import RowLayout, Segment, layout_of, order_rows, segments_of
from adapters.batch.targets import check_target, source_length, target_ids
from adapters.batch.workspace import Ranges, Workspace
from adapters.errors import InvalidRow, InvalidRows
from adapters.kernels.interface import Kernels
from adapters.kernels.upload import upload

Share = Literal["all", "around", "inside"]
POOLER = Address(None, "pooler")
_MAPS = ("attn_q", "attn_k")  # what some families with relative positions also apply to the table of them
_OF_THE_TABLE = (*DISTANCES, "distance_norm")  # what acts on the table alone, and on no token


@dataclass(frozen=True, eq=False)
class Relative:
    """What adapters make of the table of distances: one copy of its `length` entries per unit of rows.

    Unit 0 is the bare table. `unit_of_row` [rows] in plan order. The stacks of an encoder-decoder have a table each,
    of one length, and the same units.
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
    target: RowLayout | None = None  # where the rows of an encoder-decoder's decoder lie, which heads read
    target_ids: tuple[Ids, ...] = ()  # in plan order

    @property
    def answers(self) -> RowLayout:
        """Where the rows lie among the last states."""
        return self.layout if self.target is None else self.target

    lanes: tuple["BatchPlan", ...] = ()  # where rows visit the layers in orders of their own, see `batch.lanes`

    def spread(self, x: Tensor) -> Tensor:
        """Rows' states [tokens, width] where inserted ones are missing, as images' are: with zeros in their places."""
        if len(x) == self.layout.tokens or not self.rows:  # a captured pass knows no rows, and is of texts
            return x
        own = [own_tokens(row) + start for row, start in zip(self.rows, self.layout.starts, strict=False)]
        places = upload(torch.from_numpy(np.concatenate(own)), x.device)
        return x.new_zeros(self.layout.tokens, x.shape[1]).index_copy(0, places, x)

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
    kernels: Kernels | None = None,
    *,
    share: Share = "all",
) -> BatchPlan:
    """Order the rows, find their chains, and gather programs per address.

    Raises `InvalidRows` with every row that can not run, before anything is gathered for the others.

    `wants_head[i]` tells whether row i's head is to run. `share`: all that acts, only what acts around the layers, or only
    what acts inside, for rows that are in plan order already.
    """
    rows = [called(row) for row in rows]
    keys = [key_of(row) for row in rows]
    order = tuple(range(len(rows))) if share == "inside" else order_rows(keys)
    ordered = tuple(rows[i] for i in order)
    cohorts = _shared(_cohorts(rows, order, keys, geometry), share)
    layout = layout_of(source_length(row, geometry) for row in ordered)
    ids = tuple(target_ids(row, geometry) for row in ordered) if geometry.encoder_layers else ()
    target = layout_of(map(len, ids)) if ids else None
    wanted = tuple(i for i, row in enumerate(ordered) if row.head is not None and wants_head[order[i]])
    pooled = tuple(i for i in wanted if spec_of(ordered[i]).pooling == "pooler")
    space = partial(Workspace, device=device, kernels=kernels)
    steps = _steps(cohorts, (layout, target), ordered, pooled, geometry, space)
    table = (
        _relative(cohorts, layout.rows, geometry, space) if geometry.relative_positions and share != "around" else None
    )
    heads = head_steps(ordered, wanted, (layout, target), pooled, geometry, space, ids)
    return BatchPlan(order, ordered, layout, steps, table, pooled, heads, device, kernels, target, ids)


def _cohorts(
    rows: Sequence[Row], order: Sequence[int], keys: Sequence[Hashable], geometry: Geometry
) -> tuple[_Cohort, ...]:
    """Rows of one key are a unit, side by side in plan order; raises `InvalidRows`."""
    faults: dict[int, InvalidRow] = {}
    for i, row in enumerate(rows):
        try:
            check_row(row, geometry)
            check_target(row, geometry)
            check_members(row)
            check_alone(row)
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


def _shared(cohorts: tuple[_Cohort, ...], share: Share) -> tuple[_Cohort, ...]:
    if share == "all":
        return cohorts
    inside = share == "inside"
    return tuple(
        _Cohort(held.units, {at: chain for at, chain in held.chains.items() if _inside(at) == inside})
        for held in cohorts
    )


def _inside(address: Address) -> bool:
    return address.layer is not None or address.site in _OF_THE_TABLE


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
    cohorts: Sequence[_Cohort],
    layouts: tuple[RowLayout, RowLayout | None],
    rows: Sequence[Row],
    pooled: tuple[int, ...],
    geometry: Geometry,
    space: Space,
) -> dict[Address, Program]:
    """Programs by address; those of a decoder are over its own tokens, in the second layout."""
    sides = [(space(layout.tokens), _units(cohorts, layout, rows)) for layout in layouts if layout is not None]
    pools, family = space(len(pooled)), geometry.architecture
    found: dict[Address, Program] = {}
    for address in dict.fromkeys(address for cohort in cohorts for address in cohort.chains):
        if address.site in _OF_THE_TABLE:
            continue
        if address == POOLER:
            entries = _pooling(cohorts, pooled)
            if entries:
                found[address] = build(entries, pools)
            continue
        tokens, units = sides[family.in_decoder(address)]
        if not tokens.total:
            continue  # the encoder's, behind pasts
        held = zip(units, cohorts, strict=True)
        found[address] = build([Entry(own, c.chains[address]) for own, c in held if address in c.chains], tokens)
    return found


def _units(cohorts: Sequence[_Cohort], layout: RowLayout, rows: Sequence[Row]) -> list[tuple[Ranges, ...]]:
    """The tokens of every row that its adapters act on, unit by unit."""

    def acted(row: int) -> tuple[int, int]:
        start, end = layout.bounds(row)
        return start + (rows[row].called or 0), end

    return [tuple([tuple(map(acted, range(u.first, u.last))) for u in cohort.units]) for cohort in cohorts]


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


def _relative(cohorts: Sequence[_Cohort], rows: int, geometry: Geometry, space: Space) -> Relative:
    """Units whose adapters act on the table, or on queries or keys that are applied to it, get a copy of their own."""
    length, sites = geometry.relative_positions, (*_OF_THE_TABLE, *(_MAPS if geometry.relative_maps else ()))
    unit_of_row, tables = [0] * rows, 1
    acting: list[tuple[tuple[Ranges, ...], _Cohort]] = []
    for cohort in cohorts:
        if any(address.site in sites for address in cohort.chains):
            for at, unit in enumerate(cohort.units, tables):
                unit_of_row[unit.first : unit.last] = [at] * (unit.last - unit.first)
            own = range(tables, tables + len(cohort.units))
            acting.append((tuple(((at * length, (at + 1) * length),) for at in own), cohort))
            tables = own.stop
    whole = space(length * tables)
    programs: dict[Address, Program] = {}
    for address in dict.fromkeys(a for _, cohort in acting for a in cohort.chains if a.site in sites):
        entries = [Entry(own, cohort.chains[address]) for own, cohort in acting if address in cohort.chains]
        programs[address] = build(entries, whole)
    return Relative(length, tables, tuple(unit_of_row), programs)
