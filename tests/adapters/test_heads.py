from dataclasses import replace

import pytest
import torch

from adapters.heads import MAX_LAYERS, apply_heads, head_reasons, head_shapes
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from tests.adapters.builders import HEADS


def test_shapes_are_square_but_for_the_last():
    assert head_shapes(HEADS["regression"], 4) == {
        "head/0/weight": (4, 4),
        "head/0/bias": (4,),
        "head/1/weight": (4, 4),
        "head/1/bias": (4,),
        "head/2/weight": (1, 4),
        "head/2/bias": (1,),
    }
    assert set(head_shapes(HEADS["one_layer"], 4)) == {"head/0/weight"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": "nonsense"}, "nonsense"),
        ({"layers": MAX_LAYERS + 1}, "layers"),
        ({"pooling": "tokens"}, "can not pool"),
        ({"problem_type": "token"}, "problem type"),
        ({"problem_type": "regression"}, "exactly one label"),
        ({"pooling": "pooler"}, "pooler"),
    ],
)
def test_heads_that_can_not_run_are_refused_with_a_reason(change, reason):
    assert any(reason in text for text in head_reasons(replace(HEADS["two_layers"], **change), has_pooler=False))


@pytest.mark.parametrize("name", HEADS)
def test_good_heads_have_no_reasons(name):
    assert head_reasons(HEADS[name], has_pooler=True) == []


def test_many_heads_of_one_shape_each_answer_their_own_rows():
    arena = torch.randn(3 * 8)
    weight = Stacked(arena, (0, 2, 1), (2, 4), 8)
    bounds = ((0, 2), (2, 3), (3, 4))
    runs = Runs(bounds, tuple((i, i + 1) for i in range(4)), 4, torch.device("cpu"))
    x = torch.randn(4, 4)
    out = apply_heads(x, runs, replace(HEADS["one_layer"], bias=False), {"0.weight": weight})
    for (start, end), i in zip(bounds, range(3), strict=True):
        assert torch.allclose(out[start:end], x[start:end] @ weight.one(i).T, atol=1e-6)
