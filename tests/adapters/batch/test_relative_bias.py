from types import SimpleNamespace

import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from adapters.batch.relative_bias import Buckets, Distances, RunningBias


def module(*, decodes: bool) -> T5Attention:
    torch.manual_seed(1)
    made = T5Attention(T5Config(d_model=8, num_heads=2, d_kv=4), has_relative_attention_bias=True, layer_idx=0)
    made.is_decoder = decodes
    return made


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize(("count", "farthest"), [(32, 128), (8, 20), (16, 64)])
def test_buckets_are_those_of_transformers(count, farthest, both_ways):
    distance = torch.arange(-400, 401)
    expected = T5Attention._relative_position_bucket(distance, both_ways, count, farthest)
    assert torch.equal(Buckets(count, farthest, both_ways).of(distance), expected)


def test_the_bias_of_a_row_without_a_prefix():
    own = module(decodes=False)
    table = Distances(own, causal=False)
    found = table.scores(table.table, 6, 0, first=0, biased=True)
    assert torch.equal(found, own.compute_bias(6, 6)[0])


def test_a_prefix_moves_keys_and_a_past_moves_queries_too():
    own = module(decodes=True)
    causal = torch.ones(4, 7).tril(3).bool()
    for seen in (0, 3):
        table = Distances(own, causal=True)
        found = table.scores(table.table, 4, 3, first=seen, biased=True)
        assert torch.equal(found[:, causal], own.compute_bias(4, 7, past_seen_tokens=seen)[0][:, causal])
        assert bool(torch.isinf(found[:, ~causal]).all())


def test_rows_whose_prefix_changes_go_on_without_a_bias():
    plan = SimpleNamespace(relative=None, rows=[SimpleNamespace(insertion=None, past=None)] * 2)
    running = RunningBias(Distances(module(decodes=False), causal=False), plan)
    group = SimpleNamespace(rows=(0, 1), length=3, more=0)
    q = torch.zeros(2, 3, 2, 4)
    assert bool(running.at_layer({})(q, q, group).any())
    running.at_layer({1: torch.zeros(2, 2, 8)})
    kept, lost = running.at_layer({})(q, q, group)
    assert bool(kept.any())
    assert not bool(lost.any())
