import random
from itertools import pairwise

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.chains import chains_of
from adapters.batch.junctions import run_junction
from adapters.batch.program import Entry, build
from adapters.batch.rows import Row
from adapters.batch.workspace import Workspace
from adapters.manifest import Manifest, PartSpec
from adapters.methods.base import Meeting
from adapters.methods.fold import expected, fold
from adapters.weights import Package
from tests.adapters import builders
from tests.adapters.batch.arrangements import alone, average, fuse, norm, random_members, split

AT = Address(0, "ffn_junction")
CPU = torch.device("cpu")
FUSION = {"query": True, "key": True, "value": True, "query_before_ln": False, "residual_before": False, "value_before_softmax": True}  # fmt: skip


def fusion_package(seed: int, **settings):
    config = {**FUSION, **settings, "sites": builders.sites(("ffn_junction",))}
    manifest = Manifest("fusion", builders.requires("bert"), (PartSpec("fusion", config),), children=("a", "b"))
    generator = torch.Generator().manual_seed(seed)
    shapes = expected(manifest, builders.profile("bert"))
    return Package(manifest, {n: torch.randn(shape, generator=generator) * 0.3 for n, shape in shapes.items()})


@pytest.fixture(scope="module")
def residents():
    parts = [
        builders.bottleneck(width=4),
        builders.bottleneck(width=4, original_ln_before=False, non_linearity="swish"),
        builders.bottleneck(width=6, residual_before_ln=False, scaling="channel"),
        builders.bottleneck(width=4, residual_before_ln="post_add"),
        builders.bottleneck(width=4, is_parallel=True, original_ln_before=False, scaling=4.0),
        builders.bottleneck(width=4, original_ln_after=False, residual_before_ln=False),
        builders.bottleneck(width=5, use_gating=True),
        builders.bottleneck(width=4),
    ]
    adapters = [builders.adapter("bert", [part], seed=i) for i, part in enumerate(parts)]
    fusions = [
        fusion_package(70),
        fusion_package(71, value=False, query_before_ln=True),
        fusion_package(72, residual_before=True, value_before_softmax=False),
    ]
    folded = [fold(item, builders.profile("bert"), torch.float32) for item in fusions]
    placed = builders.in_one_arena([*adapters, *folded], slack=1)
    return placed[: len(adapters)], placed[len(adapters) :]


def run(members, lengths, seed=5):
    """(mixed output, each row alone) for rows of these members."""
    generator = torch.Generator().manual_seed(seed)
    f, r = (torch.randn(sum(lengths), 32, generator=generator) for _ in range(2))
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    ranges = list(pairwise(starts))
    entries = []
    for (start, end), held in zip(ranges, members, strict=True):
        chain = chains_of([Row(held, None, None, builders.ids(1, end - start))]).get(AT)
        if chain:
            entries.append(Entry((((start, end),),), chain))
    y = norm(f + r)
    mixed = run_junction(build(entries, Workspace(len(f), CPU)), Meeting(f, r, norm, y, adds=True), y.clone())
    single = [alone(held, AT, f[a:b], r[a:b]) if held else y[a:b] for (a, b), held in zip(ranges, members, strict=True)]
    return mixed, torch.cat(single)


def test_random_trees_in_one_batch_equal_every_row_alone(residents):
    rng = random.Random(3)
    for seed in range(60):
        lengths = [rng.randint(1, 15) for _ in range(rng.randint(1, 9))]
        members = [() if rng.random() < 0.15 else random_members(rng, *residents) for _ in lengths]
        mixed, single = run(members, lengths, seed)
        assert float((mixed - single).abs().max()) <= 1e-5 * max(1.0, float(single.abs().max())), seed


def test_a_fork_prepares_its_input_once_and_a_chain_inside_of_it_again(residents):
    a, b = residents[0][0], residents[0][7]
    bare, _ = run([(average((a,), (b,), weights=[1, 1]),)], [6])
    chained, _ = run([(average([a], [b], weights=[1, 1]),)], [6])
    assert not torch.allclose(bare, chained)  # AdapterHub applies the norm twice there


def test_an_average_counts_each_of_n_arms_by_its_weight_over_n(residents):
    a = residents[0][1]
    mixed, _ = run([(average((a,), (a,), weights=[3, 1]),)], [5])
    f, r = (torch.randn(5, 32, generator=g) for g in [torch.Generator().manual_seed(5)] for _ in range(2))
    assert torch.allclose(mixed, norm((alone_state(a, f, r)) / 2 + r), atol=1e-5)


def alone_state(resident, f, r):
    from tests.adapters.batch.arrangements import State, _enter, _run

    x, residual = _enter(resident, AT, f, r)
    return _run(resident, AT, State(x, residual, f, None)).hidden


def test_one_arm_of_poison_stays_in_its_own_row(residents):
    bad = builders.adapter("bert", [builders.bottleneck(width=4)], seed=9)
    poison = builders.in_one_arena([*(r.adapter for r in residents[0]), bad, residents[1][0].adapter], slack=1)
    poison[8].arena[poison[8].start * 64 : poison[8].start * 64 + bad.flat.numel()] = float("nan")
    good = (fuse(poison[9], (poison[0],), (poison[1],)),)
    sick = (fuse(poison[9], (poison[0],), (poison[8],)),)
    mixed, _ = run([good, sick, good], [4, 5, 6])
    clean, _ = run([good, good, good], [4, 5, 6])
    assert torch.isnan(mixed[4:9]).all()
    assert torch.equal(mixed[:4], clean[:4])
    assert torch.equal(mixed[9:], clean[9:])


def test_a_parallel_adapter_inside_of_a_chain_keeps_its_contribution_and_the_state_apart(residents):
    parallel, sequential = residents[0][4], residents[0][1]
    mixed, single = run([(fuse(residents[1][0], [parallel, sequential], (parallel,)),)], [5])
    assert torch.allclose(mixed, single, atol=1e-5)


def test_a_short_row_leaves_the_last_arms_of_a_split_without_tokens(residents):
    a, b = residents[0][0], residents[0][1]
    mixed, single = run([(split((a,), (b,), splits=[4, 4]),)] * 2, [3, 8])
    assert torch.allclose(mixed, single, atol=1e-5)
