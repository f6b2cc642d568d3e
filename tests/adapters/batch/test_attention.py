import random

import pytest
import torch

from adapters.batch.attention import Packing, attend
from adapters.batch.segments import layout_of

HEADS, WIDTH = 2, 4


def plain(q, k, v):
    scores = torch.einsum("qhd,khd->hqk", q, k) * WIDTH**-0.5
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


@pytest.mark.parametrize("seed", range(8))
def test_every_row_attends_to_itself_and_its_prefix_alone(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    layout = layout_of(rng.choice((1, 3, 3, 5)) for _ in range(rng.randint(1, 7)))
    q, k, v = torch.randn(3, layout.tokens, HEADS, WIDTH)
    prefixes = {
        row: torch.randn(2, rng.randint(1, 3), HEADS * WIDTH) for row in range(layout.rows) if rng.random() < 0.4
    }
    packing = Packing(layout, torch.device("cpu"))
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            out = attend(q, k, v, packing, prefixes, WIDTH**-0.5)
        for row in range(layout.rows):
            own = slice(*layout.bounds(row))
            keys, values = k[own], v[own]
            if row in prefixes:
                more = prefixes[row].view(2, -1, HEADS, WIDTH)
                keys, values = torch.cat([more[0], keys]), torch.cat([more[1], values])
            assert torch.allclose(out[own], plain(q[own], keys, values), atol=1e-5)


def test_a_nan_row_changes_no_other_row_by_a_bit():
    layout = layout_of([3, 3, 2, 3])
    q, k, v = torch.randn(3, layout.tokens, HEADS, WIDTH, generator=torch.Generator().manual_seed(0))
    packing = Packing(layout, torch.device("cpu"))
    before = attend(q, k, v, packing, {}, 0.5)
    for tensor in (q, k, v):
        tensor[3:6] = float("nan")
    after = attend(q, k, v, packing, {}, 0.5)
    assert torch.equal(torch.cat([before[:3], before[6:]]), torch.cat([after[:3], after[6:]]))
    assert torch.isnan(after[3:6]).all()


def test_rows_of_one_length_and_equal_prefixes_run_together():
    packing = Packing(layout_of([3, 1, 3, 3]), torch.device("cpu"))
    groups = packing.groups((0, 0, 2, 0))
    assert [(group.rows, group.length, group.more) for group in groups] == [((0, 3), 3, 0), ((1,), 1, 0), ((2,), 3, 2)]
    assert groups[0].tokens.tolist() == [0, 1, 2, 7, 8, 9]
    assert packing.groups((0, 0, 2, 0)) is groups and packing.groups((0, 0, 0, 0)) is not groups


@pytest.mark.parametrize("window", [1, 2, 4, 9])
def test_a_window_hides_tokens_that_are_as_many_places_away(window):
    layout = layout_of([1, 3, 3, 8, 5])
    torch.manual_seed(window)
    q, k, v = torch.randn(3, layout.tokens, HEADS, WIDTH)
    prefixes = {2: torch.randn(2, 2, HEADS * WIDTH), 3: torch.randn(2, 1, HEADS * WIDTH)}
    out = attend(q, k, v, Packing(layout, torch.device("cpu")), prefixes, WIDTH**-0.5, window)
    for row in range(layout.rows):
        start, end = layout.bounds(row)
        for token in range(start, end):
            seen = slice(max(start, token - window + 1), min(end, token + window))
            keys, values = k[seen], v[seen]
            if row in prefixes:  # however far away
                more = prefixes[row].view(2, -1, HEADS, WIDTH)
                keys, values = torch.cat([more[0], keys]), torch.cat([more[1], values])
            assert torch.allclose(out[token], plain(q[token, None], keys, values)[0], atol=1e-5)


def test_masks_are_made_once_for_all_layers_and_only_for_rows_that_need_them():
    packing = Packing(layout_of([2, 6]), torch.device("cpu"))
    short, long = packing.groups((0, 0))
    assert (
        packing.visible(short, 2) is None and packing.visible(long, None) is None and packing.visible(long, 6) is None
    )
    assert packing.visible(long, 2) is packing.visible(long, 2)


def test_a_bias_is_added_to_the_scores_of_own_tokens_only():
    layout = layout_of([3, 3])
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 6, HEADS, WIDTH)
    prefixes = {1: torch.randn(2, 2, HEADS * WIDTH)}
    scores = torch.randn(2, HEADS, 3, 3)
    seen = []

    def bias(own_q, own_k, group):
        seen.append((own_q.shape, torch.equal(own_k[0], k[slice(*layout.bounds(group.rows[0]))])))
        return scores[list(group.rows)]

    out = attend(q, k, v, Packing(layout, torch.device("cpu")), prefixes, 0.5, bias=bias)
    assert seen == [((1, 3, HEADS, WIDTH), True)] * 2
    more = prefixes[1].view(2, 2, HEADS, WIDTH)
    keys, values = torch.cat([more[0], k[3:]]), torch.cat([more[1], v[3:]])
    weights = 0.5 * torch.einsum("qhd,khd->hqk", q[3:], keys) + torch.cat([torch.zeros(HEADS, 3, 2), scores[1]], dim=2)
    assert torch.allclose(out[3:], torch.einsum("hqk,khd->qhd", weights.softmax(-1), values), atol=1e-5)
