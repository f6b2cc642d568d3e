import random

import pytest
import torch

from adapters.kernels.runs import Runs

CPU = torch.device("cpu")


def random_runs(seed: int) -> Runs:
    rng, at, bounds, rows, taken = random.Random(seed), 0, [], [], 0
    for _ in range(rng.randint(1, 6)):
        at += rng.choice((0, 0, 3))
        length = rng.randint(1, 7)
        bounds.append((at, at + length))
        cut = rng.randint(0, length - 1)
        rows += [(taken, taken + cut), (taken + cut, taken + length)] if cut else [(taken, taken + length)]
        at, taken = at + length, taken + length
    return Runs(tuple(bounds), tuple(rows), at + rng.choice((0, 4)), CPU)


@pytest.mark.parametrize("seed", range(30))
def test_take_and_put_are_inverse_and_touch_only_their_tokens(seed):
    runs = random_runs(seed)
    x = torch.randn(runs.total, 3)
    tokens = [t for start, end in runs.bounds for t in range(start, end)]
    assert torch.equal(runs.take(x), x[tokens])
    out = runs.put(x.clone(), runs.take(x) + 1)
    rest = [t for t in range(runs.total) if t not in tokens]
    assert torch.equal(out[tokens], x[tokens] + 1)
    assert torch.equal(out[rest], x[rest])


@pytest.mark.parametrize("seed", range(30))
def test_the_padded_form_holds_only_the_segments_own_tokens_and_compacts_back(seed):
    runs = random_runs(seed)
    segments = len(runs.lengths)
    owner = runs.segment_of_token
    assert owner.tolist() == [s for s, n in enumerate(runs.lengths) for _ in range(n)]
    padded = runs.padded_index.view(segments, runs.longest)
    for s in range(segments):
        assert set(owner[padded[s]].tolist()) == {s}
    assert torch.equal(runs.padded_index[runs.compact_index], torch.arange(runs.count))


def test_rows_of_tokens():
    runs = Runs(((0, 4), (6, 8)), ((0, 1), (1, 4), (4, 6)), 9, CPU)
    assert runs.row_of_token.tolist() == [0, 1, 1, 1, 2, 2]


def test_put_keeps_gradients_and_does_not_write_into_what_needs_them():
    runs = Runs(((1, 3),), ((0, 2),), 4, CPU)
    x = torch.zeros(4, 2)
    values = torch.ones(2, 2, requires_grad=True)
    out = runs.put(x, values * 2)
    out.sum().backward()
    assert torch.equal(values.grad, torch.full((2, 2), 2.0))
    assert float(x.abs().sum()) == 0


def test_what_is_made_of_runs_is_made_once_for_each_key():
    runs, made = random_runs(1), []
    for key in ("a", "b", "a"):
        assert runs.once(key, lambda key=key: made.append(key) or key) == key
    assert made == ["a", "b"]
