"""Rows that visit the backbone's layers in an order of their own: some several times, each time under other adapters.

A lane is the rows of one route. Embeddings, the last norm and the heads see all rows of a pass together; between them
every lane runs the layers of its route, so that no row pays for layers that it does not visit. For the layers, every
visit is a plan of its own, in which what acts at that place of the route acts at the layer that is visited.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.batch.plan import BatchPlan, plan_batch
from adapters.batch.program import Program
from adapters.batch.rows import Row
from adapters.errors import InvalidRow
from adapters.kernels.interface import Kernels

Show = Callable[[BatchPlan], None]
Programs = Mapping[Address, Program]


def plan_lanes(
    rows: Sequence[Row],
    geometry: Geometry,
    device: torch.device,
    wants_head: Sequence[bool],
    kernels: Kernels | None = None,
) -> BatchPlan:
    """See `plan_batch`; where a row has a route, the plan has a lane for every route, in plan order."""
    if all(row.route is None for row in rows):
        return plan_batch(rows, geometry, device, wants_head, kernels)
    if any(row.past is not None for row in rows):
        raise InvalidRow("a row behind a past can not run beside one that visits layers in an order of its own")
    whole = plan_batch(rows, geometry, device, wants_head, kernels, share="around")
    lanes: list[BatchPlan] = []
    for _, held in groupby(whole.rows, key=lambda row: row.route):
        own = tuple(held)
        lanes.append(plan_batch(own, geometry, device, [False] * len(own), kernels, share="inside"))
    return replace(whole, lanes=tuple(lanes))


def visits(lane: BatchPlan, layers: int) -> Iterator[tuple[int, BatchPlan]]:
    """The layers that a lane visits, each with what acts there during this visit."""
    for place, layer in enumerate(lane.rows[0].route or range(layers)):
        table = lane.relative
        if table is not None:
            table = replace(table, programs=_acting(table.programs, place, layer))
        yield layer, replace(lane, steps=_acting(lane.steps, place, layer), relative=table)


def replaced_norms(plan: BatchPlan) -> tuple[Address, ...]:
    """The norms of the model that adapters replace for some rows, whichever lanes those are in."""
    found = dict.fromkeys(plan.renormed)
    for lane in plan.lanes:
        route = lane.rows[0].route
        found |= dict.fromkeys(_visited(address, route) for address in lane.renormed)
    return tuple(found)


@contextmanager
def diverted(
    plan: BatchPlan, family: Architecture, layers: int, modules: Mapping[str, nn.Module], show: Show
) -> Iterator[None]:
    """Let the model run the lanes in the place of its layers; `show` is given the plan of every visit before it."""
    parent, _, name = family.layer.removesuffix(".{layer}").rpartition(".")
    holder = modules[parent]
    own = getattr(holder, name)
    setattr(holder, name, nn.ModuleList([_Lanes(plan, family, layers, modules, show)]))
    try:
        yield
    finally:
        setattr(holder, name, own)


class _Lanes(nn.Module):
    """What the model calls instead of its layers, as if it were its only one."""

    def __init__(
        self, plan: BatchPlan, family: Architecture, layers: int, modules: Mapping[str, nn.Module], show: Show
    ) -> None:
        super().__init__()
        self._plan, self._family, self._layers, self._show = plan, family, layers, show
        self._modules_of_all = modules

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        """[1, tokens, hidden] of all lanes, one after another; anything else is what the model hands to each layer."""
        ends, more = [0], ()
        states: list[Tensor] = []
        tokens = hidden.shape[1]
        for lane in self._plan.lanes:
            ends.append(ends[-1] + lane.layout.tokens)
            state, own_args, own_kwargs = _cut((hidden, args, kwargs), ends[-2], ends[-1], tokens)
            for layer, visit in visits(lane, self._layers):
                self._show(visit)
                out = self._modules_of_all[self._family.layer_path(layer)](state, *own_args, **own_kwargs)
                state, more = (out[0], out[1:]) if isinstance(out, tuple) else (out, ())
            states.append(state)
        self._show(self._plan)
        whole = torch.cat(states, dim=1)
        return (whole, *more) if more else whole


def _visited(address: Address, route: tuple[int, ...] | None) -> Address:
    return address if route is None or address.layer is None else Address(route[address.layer], address.site)


def _acting(programs: Programs, place: int, layer: int) -> Programs:
    """Programs of this place at this layer; what acts on the table of distances does so wherever it is looked up."""
    held = {at: program for at, program in programs.items() if at.layer in (None, place)}
    return {at if at.layer is None else Address(layer, at.site): program for at, program in held.items()}


def _cut(value: Any, start: int, end: int, tokens: int) -> Any:
    """A value with its tensors [1, tokens, ...] cut down to some of the tokens, through tuples and dictionaries."""
    if isinstance(value, Tensor):
        per_token = value.dim() > 1 and value.shape[:2] == (1, tokens)
        return value[:, start:end] if per_token else value
    if isinstance(value, tuple):
        return tuple(_cut(item, start, end, tokens) for item in value)
    if isinstance(value, dict):
        return {key: _cut(item, start, end, tokens) for key, item in value.items()}
    return value
