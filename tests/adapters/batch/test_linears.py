import random

import pytest
import torch
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.batch.chains import chains_of
from adapters.batch.linears import run_linear, run_part
from adapters.batch.program import Entry, build
from adapters.batch.rows import Fork, Row, leaves
from adapters.batch.workspace import Workspace
from adapters.errors import InvalidRow
from adapters.weights import Resident
from tests.adapters import builders
from tests.adapters.batch.arrangements import add, average

AT = Address(0, "attn_q")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def residents():
    parts = [
        builders.lora(("attn_q",), rank=3),
        builders.lora(("attn_q",), rank=5),
        builders.lora(("attn_q",), rank=20),
        builders.PartSpec("ia3", {"sites": builders.sites(("attn_q",), scaling=1.3)}),
        builders.PartSpec("ia3", {"sites": builders.sites(("attn_q",), scaling=0.7)}),
    ]
    return builders.in_one_arena([builders.adapter("bert", [p], seed=i) for i, p in enumerate(parts)], slack=1)


def state(member, h, x):
    """AdapterHub's state [tokens, out] of one row: a delta, or a product of factors."""
    if isinstance(member, Fork):
        arms = []
        for arm in member.arms:
            inner = h
            for one in arm:
                inner = state(one, inner, x)
            arms.append(inner)
        if member.kind == "sum":
            return sum(arms)
        return sum(w * one for w, one in zip(member.weights, arms, strict=True)) / len(arms)
    block = member.adapter.blocks[AT][0]
    held = {name: member.view(span) for name, span in block.spans.items()}
    if block.method == "ia3":
        return (torch.ones(len(x), 32) if h is None else h) * held["scale"]
    return (x if h is None else h) @ held["down"].T @ held["up"].T


def run(members, lengths):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(sum(lengths), 32, generator=generator)
    weight, bias = torch.randn(32, 32, generator=generator), torch.randn(32, generator=generator)
    y = functional.linear(x, weight, bias)
    entries, single, start = [], [], 0
    for held, length in zip(members, lengths, strict=True):
        cut = slice(start, start + length)
        chain = chains_of([Row(held, None, None, builders.ids(1, length))]).get(AT)
        if chain:
            entries.append(Entry((((start, start + length),),), chain))
            h = None
            for member in held:
                h = state(member, h, x[cut])
            method = list(leaves(held))[-1].adapter.blocks[AT][0].method
            single.append(y[cut] * h if method == "ia3" else y[cut] + h)
        else:
            single.append(y[cut])
        start += length
    return run_linear(build(entries, Workspace(len(x), CPU)), x, y.clone(), weight), torch.cat(single)


def test_random_chains_and_averages_in_one_batch_equal_every_row_alone(residents):
    rng = random.Random(4)

    def member():
        if rng.random() < 0.7:
            return rng.choice(residents)
        arms = [(rng.choice(residents[:3]),) for _ in range(rng.choice((2, 3)))]
        if rng.random() < 0.3:
            return add(*arms)
        return average(*arms, weights=[rng.uniform(0.1, 2) for _ in arms])

    for _ in range(60):
        lengths = [rng.randint(1, 9) for _ in range(rng.randint(1, 8))]
        members = [tuple(member() for _ in range(rng.choice((0, 1, 1, 2, 3)))) for _ in lengths]
        mixed, single = run(members, lengths)
        assert torch.allclose(mixed, single, rtol=1e-4, atol=1e-4 * float(single.abs().max()))


def test_a_sum_runs_in_turn_so_that_dora_stretches_what_came_before_it():
    low = builders.lora(("attn_q",), rank=3)
    stretched = builders.lora(("attn_q",), rank=2, dora="peft")
    parts = [low, stretched, stretched, builders.lora(("attn_q",), rank=20)]
    a, b, c, d = builders.in_one_arena([builders.adapter("bert", [p], seed=i) for i, p in enumerate(parts)])
    orders = [(a, b), (b, a), (b, c, a), (d, b, a, c), (a,), (b,), (a, d)]
    members = [(add(*((one,) for one in order)),) for order in orders]
    x, weight = torch.randn(3 * len(orders), 32), torch.randn(32, 32)
    y = torch.randn_like(x)
    entries, due = [], []
    for i, (order, held) in enumerate(zip(orders, members, strict=True)):
        cut = slice(3 * i, 3 * i + 3)
        entries.append(Entry((((cut.start, cut.stop),),), chains_of([Row(held, None, None, builders.ids(1, 3))])[AT]))
        due.append(y[cut])
        for one in order:
            views = {name: one.view(span) for name, span in one.adapter.blocks[AT][0].spans.items()}
            due[-1] = due[-1] + x[cut] @ views["down"].T @ views["up"].T
            due[-1] = due[-1] * views.get("gain", torch.ones(32)) + views.get("shift", torch.zeros(32))
    made = run_linear(build(entries, Workspace(len(x), CPU)), x, y.clone(), weight)
    assert torch.allclose(made, torch.cat(due), rtol=1e-4, atol=1e-4 * float(y.abs().max()))
    assert not torch.allclose(made[:3], made[3:6])


def test_a_language_adapter_under_many_task_adapters_is_one_operand(residents):
    rows = [Row((residents[0], residents[i]), None, None, builders.ids(1, 4)) for i in (1, 2, 1)]
    entries = [Entry((((4 * i, 4 * i + 4),),), chains_of([row])[AT]) for i, row in enumerate(rows)]
    program = build(entries, Workspace(12, CPU))
    assert [len(step.runs.bounds) for step in program] == [1, 2, 1]  # the ranks above are of two classes


def test_only_square_maps_and_only_known_forks_can_be_arranged(residents):
    wide = [builders.adapter("bert", [builders.lora(("ffn_in",))], seed=s) for s in (1, 2)]
    two = builders.in_one_arena(wide)
    with pytest.raises(InvalidRow, match="square"):
        chains_of([Row(tuple(two), None, None, builders.ids(1, 3))])
    fork = Fork("split", ((residents[0],), (residents[1],)), (False, False), splits=(2, 2))
    with pytest.raises(InvalidRow, match="split"):
        chains_of([Row((fork,), None, None, builders.ids(1, 3))])
    assert isinstance(residents[0], Resident)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_part_of_a_shared_map_is_written_where_it_lies_and_differentiated_beside_it(residents, index):
    torch.manual_seed(index)
    hidden = builders.HIDDEN
    x, whole, weight = torch.randn(5, hidden), torch.randn(5, 3 * hidden), torch.randn(hidden, hidden)
    row = Row((residents[0], residents[1]), None, None, builders.ids(0, 5))
    program = build([Entry((((0, 5),),), chains_of([row])[AT])], Workspace(5, CPU))
    due = list(whole.clone().chunk(3, dim=1))
    due[index] = run_linear(program, x, due[index].clone(), weight)
    with torch.no_grad():
        held = whole.clone()
        made = run_part(program, x, held, weight, index)
    assert made is held and torch.equal(made, torch.cat(due, dim=1))
    learning = whole.clone().requires_grad_()
    apart = run_part(program, x, learning, weight, index)
    assert torch.allclose(apart, made, atol=1e-6) and torch.equal(learning, whole)
    apart.sum().backward()
    assert bool((learning.grad == 1).all())
