"""Running a program at a junction: bottlenecks in chains, fusions, averages and splits, as AdapterHub composes them.

A chain enters each adapter anew (its own norm and residual); the arms of a fork share what the fork entered with, and
only the last adapter of a row leaves, which adds the residual and norm that follow.
"""

from torch import Tensor

from adapters.batch.program import Branch, Program, Step
from adapters.kernels.runs import Runs
from adapters.methods import fusion
from adapters.methods.base import Meeting
from adapters.methods.table import JUNCTION


def run_junction(program: Program, meeting: Meeting, y: Tensor) -> Tensor:
    """The junction's output [tokens, hidden]: y with the rows of the program replaced."""
    h = meeting.f
    for item in program:
        out = y if item.leaves else h.clone() if h is meeting.f else h
        if isinstance(item, Step):
            settle = JUNCTION[item.method].settle
            if settle(h, meeting, out, item.operand, leaves=item.leaves):
                h = h if item.leaves else out
                continue
        part = _part(meeting, item.runs, known=item.first)
        state = item.runs.take(h)
        if isinstance(item, Step):
            method, variant = JUNCTION[item.method], item.operand.variant
            x, residual = method.enter(state, part, variant)
            state, _ = method.run(x, residual, item.operand)
        else:
            state = _fork(item, state, part)
            method, variant = JUNCTION[item.leads[0]], item.leads[1].variant
        if item.leaves:
            y = item.runs.put(out, method.leave(state, part, variant))
        else:
            h = item.runs.put(out, state)
    return y


def _fork(branch: Branch, h: Tensor, meeting: Meeting) -> Tensor:
    """The state [n, hidden] after a fork."""
    if branch.kind == "fuse":
        assert branch.fusion is not None
        method, variant = JUNCTION[branch.leads[0]], branch.leads[1].variant
        x, residual = method.enter(h, meeting, variant)
        query = method.query(h, x, meeting, variant, before_norm=fusion.before_norm(branch.fusion))
        _, own = _arms(branch, x, residual, meeting)
        contributions = own.view(branch.arms, branch.runs.count, -1).transpose(0, 1)
        return fusion.attend(query, contributions, residual, branch.fusion)
    x, residual = JUNCTION[branch.enters[0]].enter(h, meeting, branch.enters[1])
    state, _ = _arms(branch, x, residual, meeting)
    return branch.combine(state)


def _arms(branch: Branch, x: Tensor, residual: Tensor, meeting: Meeting) -> tuple[Tensor, Tensor]:
    """(states, contributions of the last adapters), both [E, hidden], of arms that all start from x [n, hidden]."""
    spread = branch.spread
    inside = Meeting(meeting.f[spread], meeting.r[spread], meeting.norm, None, meeting.adds, meeting.removable)
    state, residual = x[spread], residual[spread]
    own = state.new_zeros(state.shape)
    for item in branch.program:
        part, h = _part(inside, item.runs, known=False), item.runs.take(state)
        if isinstance(item, Branch):
            state = item.runs.put(state, _fork(item, h, part))
            continue
        method = JUNCTION[item.method]
        if item.enters:
            prepared, kept = method.enter(h, part, item.operand.variant)
        else:
            prepared, kept = h, item.runs.take(residual)
        after, up = method.run(prepared, kept, item.operand)
        # A method may return one tensor as both; later writes into one must not reach the other.
        state, own = item.runs.put(state, after), item.runs.put(own, up.clone() if up is after else up)
    return state, own


def _part(meeting: Meeting, runs: Runs, *, known: bool) -> Meeting:
    """What meets for the tokens of some runs; the norm that the model computed holds for the first state only."""
    normed = runs.take(meeting.normed) if known and meeting.normed is not None else None
    f, r = runs.take(meeting.f), runs.take(meeting.r)
    return Meeting(f, r, meeting.norm, normed, meeting.adds, meeting.removable)
