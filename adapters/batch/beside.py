"""Attention beside a layer's own: what its queries find in keys and values of an adapter alone, added to its output."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import SITES, Address, SiteKind
from adapters.batch.plan import BatchPlan
from adapters.batch.program import Program, flat_steps
from adapters.batch.running import Pass
from adapters.methods.base import BaseMap
from adapters.methods.table import BESIDE

_ASKED = "queries"


def places(plan: BatchPlan) -> list[Address]:
    """Where rows of a plan, or of its lanes, have such an attention."""
    found: dict[Address, None] = {}
    for one in (plan, *plan.lanes):
        route = None if one is plan else one.rows[0].route
        for address, program in one.steps.items():
            if SITES[address.site] is SiteKind.ATTENTION_KV and _any(program):
                assert address.layer is not None, "keys and values are a layer's"
                layer = address.layer if route is None else route[address.layer]
                found[Address(layer, address.site)] = None
    return list(found)


def keep(running: Pass, address: Address, q: Tensor) -> None:
    """Keep the queries [tokens, heads, width] of an attention until its output is there."""
    if _any(running.plan.steps.get(address, ())):
        running.held[address, _ASKED] = q


def hooks(
    plan: BatchPlan, running: Callable[[], Pass], base: Callable[[Address], BaseMap]
) -> Iterator[tuple[Address, Any]]:
    """The place of every such attention, and the hook behind the layer's own attention there."""
    for address in places(plan):
        yield address, _hook(running, address, base)


def _hook(running: Callable[[], Pass], address: Address, base: Callable[[Address], BaseMap]) -> Any:
    """Behind the attention module: its output [1, tokens, hidden], the first of what it answers, with what was found."""

    def add(module: Any, args: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q = running().held.pop((address, _ASKED), None)
        if q is None:  # none in the lanes of other rows
            return output
        y = output[0].reshape(-1, output[0].shape[-1])
        for step in flat_steps(running().plan.steps[address]):
            if step.method in BESIDE:
                method, runs = BESIDE[step.method], step.runs
                found = method.beside(runs.take(q), step.operand)
                if not method.past_map(step.operand):
                    found = functional.linear(found, *base(Address(address.layer, "attn_out")))
                y = runs.put(y, runs.take(y) + found)
        return (y.view(output[0].shape), *output[1:])

    return add


def _any(program: Program) -> bool:
    return any(step.method in BESIDE for step in flat_steps(program))
