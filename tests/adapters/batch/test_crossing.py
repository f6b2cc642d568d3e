import torch

from adapters.batch.crossing import Crossing, attend_across
from adapters.batch.segments import layout_of

HEADS, WIDTH = 2, 3


def alone(q, k, v, scaling):
    split = [t.transpose(0, 1) for t in (q, k, v)]
    weights = (split[0] @ split[1].transpose(1, 2) * scaling).softmax(-1)
    return (weights @ split[2]).transpose(0, 1)


def test_every_row_sees_its_own_keys_and_prefix_alone():
    torch.manual_seed(0)
    queries, keys = layout_of([2, 3, 2, 2]), layout_of([4, 1, 4, 6])
    q = torch.randn(queries.tokens, HEADS, WIDTH)
    k, v = torch.randn(2, keys.tokens, HEADS, WIDTH).unbind()
    prefixes = {2: torch.randn(2, 3, HEADS * WIDTH)}
    out = attend_across(q, k, v, Crossing(queries, keys, torch.device("cpu")), prefixes, 0.7)
    for row in range(4):
        (first, last), (start, end) = queries.bounds(row), keys.bounds(row)
        more = prefixes.get(row, torch.zeros(2, 0, HEADS * WIDTH)).view(2, -1, HEADS, WIDTH)
        own = torch.cat([more[0], k[start:end]]), torch.cat([more[1], v[start:end]])
        assert torch.allclose(out[first:last], alone(q[first:last], *own, 0.7), atol=1e-6)


def test_rows_of_equal_lengths_run_together_and_are_found_once():
    crossing = Crossing(layout_of([2, 3, 2]), layout_of([4, 1, 4]), torch.device("cpu"))
    assert crossing.groups((0, 0, 0)) == {(2, 4, 0): (0, 2), (3, 1, 0): (1,)}
    assert crossing.groups((1, 0, 0)) == {(2, 4, 1): (0,), (3, 1, 0): (1,), (2, 4, 0): (2,)}
    assert crossing.groups((0, 0, 0)) is crossing.groups((0, 0, 0))
