"""Random arrangements of resident adapters, and what they mean for one row, computed one adapter at a time.

The meaning is that of AdapterHub's composition blocks: a chain prepares the input of every member anew, a fork only
once for all of its arms (by its first adapter, a fusion by its last one), and the last adapter of all leaves.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.batch.rows import Fork, Member, leaves
from adapters.methods import fusion
from adapters.methods.bottleneck import Variant
from adapters.methods.settings import activation
from adapters.weights import Block, Folded, Resident


def norm(x: Tensor) -> Tensor:
    return functional.layer_norm(x, (32,)) * 1.3 + 0.1


def average(*arms: Sequence[Member], weights: Sequence[float]) -> Fork:
    return _fork("average", arms, weights=tuple(w / sum(weights) for w in weights))


def split(*arms: Sequence[Member], splits: Sequence[int]) -> Fork:
    return _fork("split", arms, splits=tuple(splits))


def add(*arms: Sequence[Member]) -> Fork:
    return _fork("sum", arms)


def fuse(fused: Resident, *arms: Sequence[Member]) -> Fork:
    return _fork("fuse", arms, fusion=fused)


def _fork(kind, arms, **more) -> Fork:
    """An arm that is a tuple is one adapter alone; an arm that is a list is a chain."""
    return Fork(kind, tuple(tuple(arm) for arm in arms), tuple(isinstance(arm, list) for arm in arms), **more)


def random_members(rng: random.Random, pool: Sequence[Resident], fusions: Sequence[Resident]) -> tuple[Member, ...]:
    """A chain of up to three members, forks among them."""
    return tuple(_random_member(rng, pool, fusions) for _ in range(rng.choice((1, 1, 2, 3))))


def _random_member(rng: random.Random, pool: Sequence[Resident], fusions: Sequence[Resident]) -> Member:
    def arm():
        if rng.random() < 0.6:
            return (rng.choice(pool),)
        return [rng.choice(pool) for _ in range(rng.choice((1, 2)))]

    arms = [arm() for _ in range(rng.choice((2, 3)))]
    match rng.choice(("leaf", "leaf", "average", "split", "fuse", "nested")):
        case "average":
            return average(*arms, weights=[rng.uniform(0.1, 2) for _ in arms])
        case "split":
            return split(*arms, splits=[rng.randint(8, 9) for _ in arms])
        case "fuse":
            return fuse(rng.choice(fusions), *arms)
        case "nested":
            inner = average(arm(), arm(), weights=[1.0, 3.0])
            return split([inner], arm(), splits=[4, 12])
    return rng.choice(pool)


@dataclass
class State:
    """AdapterHub's state of one row at a junction."""

    hidden: Tensor
    residual: Tensor
    up: Tensor
    last: Block


def alone(members: Sequence[Member], address: Address, f: Tensor, r: Tensor) -> Tensor:
    """The junction's output of one row [tokens, hidden] under a chain of bottlenecks."""
    state = State(f, f, torch.zeros_like(f), None)
    for member in members:
        state = _member(member, address, state, r, enters=True)
    return _leave(state, f, r)


def _block(resident: Resident, address: Address) -> tuple[Variant, dict[str, Tensor]]:
    block = resident.adapter.blocks[address][0]
    return block.variant, {name: resident.view(span) for name, span in block.spans.items()}


def _enter(resident: Resident, address: Address, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    v, _ = _block(resident, address)
    if v.is_parallel:
        return r, r
    x = norm(h + r) if v.original_ln_before else h
    return x, {True: h, False: x, "post_add": h + r}[v.residual_before_ln]


def _run(resident: Resident, address: Address, state: State) -> State:
    v, t = _block(resident, address)
    z = activation(v.non_linearity)(functional.linear(state.hidden, t["down.weight"], t["down.bias"]))
    up = functional.linear(z, t["up.weight"], t["up.bias"]) * (t["scaling"] if v.scaling is None else v.scaling)
    out = up
    if v.use_gating:
        gate = torch.sigmoid(functional.linear(state.hidden, t["gate.weight"], t["gate.bias"])).mean(0)
        out = up * gate
    return State(out if v.is_parallel else out + state.residual, state.residual, up, resident)


def _member(member: Member, address: Address, state: State, r: Tensor, *, enters: bool) -> State:
    if isinstance(member, Resident):
        if enters:
            hidden, residual = _enter(member, address, state.hidden, r)
            state = State(hidden, residual, state.up, state.last)
        return _run(member, address, state)
    every = list(leaves((member,)))
    hidden, residual = _enter(every[-1] if member.kind == "fuse" else every[0], address, state.hidden, r)
    start = State(hidden, residual, state.up, state.last)
    arms = [slice(None)] * len(member.arms)
    if member.kind == "split":
        ends = [sum(member.splits[:i]) for i in range(len(member.splits) + 1)]
        arms = [slice(a, b) for a, b in pairwise(ends)]
    done = []
    for arm, chained, cut in zip(member.arms, member.chained, arms, strict=True):
        inside = State(start.hidden[cut], start.residual[cut], start.up[cut], start.last)
        if len(inside.hidden):
            for one in arm:
                inside = _member(one, address, inside, r[cut], enters=chained)
            done.append(inside)
    if member.kind == "split":
        out = torch.cat([one.hidden for one in done])
    elif member.kind == "average":
        out = sum(w * one.hidden for w, one in zip(member.weights, done, strict=True)) / len(done)
    else:
        block = member.fusion.adapter.blocks[address][0]
        folded = Folded("fusion", block.variant, {n: member.fusion.view(s) for n, s in block.spans.items()})
        v, _ = _block(every[-1], address)
        query = r if v.is_parallel else state.hidden if block.variant.query_before_ln else hidden
        out = fusion.reference(folded, query, torch.stack([one.up for one in done], dim=1), residual)
    return State(out, residual, state.up, every[-1])


def _leave(state: State, f: Tensor, r: Tensor) -> Tensor:
    v = state.last.adapter.blocks[next(iter(state.last.adapter.blocks))][0].variant
    out = state.hidden + f if v.is_parallel else state.hidden
    return norm(out + r) if v.original_ln_after else out


def each(rows: Sequence[tuple[int, int]], compute: Callable[[int, slice], Tensor]) -> Tensor:
    """Rows one by one, put side by side."""
    return torch.cat([compute(i, slice(start, end)) for i, (start, end) in enumerate(rows)])
