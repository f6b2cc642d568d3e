import numpy as np
import pytest
import torch
from torch.nn import functional

from adapters.kernels.arena import Stacked
from adapters.kernels.ragged import Ragged, enter, gathered_is_cheaper, looked_up, row_mean, spread
from adapters.kernels.runs import Runs
from tests.adapters.kernels.test_runs import CPU, random_runs

ALIGN = 8


def stack(shape: tuple[int, ...], count: int, seed: int) -> Stacked:
    size = -(-torch.Size(shape).numel() // ALIGN)
    arena = torch.randn(size * count * ALIGN, generator=torch.Generator().manual_seed(seed))
    return Stacked(arena, np.array([i * size for i in range(count)])[::-1].copy(), shape, ALIGN)


def both_forms(x: torch.Tensor, runs: Runs) -> list[Ragged]:
    padded = x.index_select(0, runs.padded_index).view(len(runs.lengths), runs.longest, -1)
    return [Ragged(x, runs, padded=False), Ragged(padded, runs, padded=True)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("with_bias", [True, False])
def test_both_forms_equal_the_plain_linear_map_of_every_segment(seed, with_bias):
    runs = random_runs(seed)
    count = len(runs.lengths)
    weight, bias = stack((5, 3), count, seed), stack((5,), count, seed + 1) if with_bias else None
    x = torch.randn(runs.count, 3, generator=torch.Generator().manual_seed(seed))
    plain = torch.cat(
        [
            functional.linear(p, weight.one(i), bias.one(i) if bias else None)
            for i, p in enumerate(x.split(runs.lengths))
        ]
    )
    for tokens in both_forms(x, runs):
        with torch.no_grad():
            assert torch.allclose(tokens.linear(weight, bias).leave(), plain, atol=1e-5)
        assert torch.allclose(tokens.linear(weight, bias).leave(), plain, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_both_forms_agree_on_elementwise_work(seed):
    runs = random_runs(seed)
    count = len(runs.lengths)
    vector, one = stack((4,), count, seed), stack((1,), count, seed + 5)
    x = torch.randn(runs.count, 4, generator=torch.Generator().manual_seed(seed))
    outs = [
        tokens.scale(vector).scale(one).layer_norm(vector, vector, 1e-5).map(torch.relu).leave()
        for tokens in both_forms(x, runs)
    ]
    assert torch.allclose(outs[0], outs[1], atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_spreading_gives_every_token_its_segments_vector(seed):
    runs = random_runs(seed)
    vector = stack((4,), len(runs.lengths), seed)
    plain = torch.cat([vector.one(i).expand(length, -1) for i, length in enumerate(runs.lengths)])
    assert torch.equal(spread(vector, runs), plain)


def test_a_pad_never_brings_another_segments_nan():
    runs = Runs(((0, 1), (1, 5)), ((0, 1), (1, 5)), 5, CPU)
    weight = stack((2, 3), 2, 0)
    x = torch.randn(5, 3)
    clean = [tokens.linear(weight, None).leave() for tokens in both_forms(x, runs)]
    x[1:] = float("nan")
    for tokens, before in zip(both_forms(x, runs), clean, strict=True):
        after = tokens.linear(weight, None).leave()
        assert torch.equal(after[:1], before[:1])
        assert torch.isnan(after[1:]).all()


def test_the_choice_depends_on_waste_and_on_the_number_of_calls():
    def runs(lengths: list[int]) -> Runs:
        ends = torch.tensor(lengths).cumsum(0).tolist()
        bounds = tuple(zip([0, *ends[:-1]], ends, strict=True))
        return Runs(bounds, bounds, ends[-1], CPU)

    small = ((64, 4), (4, 64))
    assert not gathered_is_cheaper(runs([30]), small)
    assert gathered_is_cheaper(runs([4] * 32), small)
    assert not gathered_is_cheaper(runs([1] * 31 + [4000]), small)
    assert not enter(torch.randn(30, 64), runs([30]), small).padded
    assert enter(torch.randn(128, 64), runs([4] * 32), small).padded


def test_row_means_keep_rows_apart():
    runs = Runs(((0, 5),), ((0, 2), (2, 5)), 5, CPU)
    x = torch.tensor([[1.0], [3.0], [float("nan")], [0.0], [0.0]])
    mean = row_mean(x, runs)
    assert mean[0].item() == 2.0
    assert torch.isnan(mean[1]).all()


@pytest.mark.parametrize("seed", range(4))
def test_every_token_gets_a_row_of_its_own_segments_matrix(seed):
    runs = random_runs(seed)
    matrix = stack((7, 3), len(runs.lengths), seed)
    index = torch.randint(7, (runs.count,), generator=torch.Generator().manual_seed(seed))
    found = looked_up(matrix, index, runs)
    for row, place, segment in zip(found, index, runs.segment_of_token, strict=True):
        assert torch.equal(row, matrix.one(int(segment))[place])
