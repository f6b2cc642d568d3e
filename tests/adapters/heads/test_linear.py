from dataclasses import replace

import pytest
import torch

from adapters.heads.base import MAX_LAYERS
from adapters.heads.linear import linear_maps
from adapters.heads.table import head_reasons, head_shapes
from adapters.kernels.runs import Runs
from tests.adapters.heads.made import HIDDEN, SPECS, heads, stacked, states


def test_shapes_are_square_but_for_the_last():
    assert head_shapes(SPECS["regression"], 4) == {
        "head/0/weight": (4, 4),
        "head/0/bias": (4,),
        "head/1/weight": (4, 4),
        "head/1/bias": (4,),
        "head/2/weight": (1, 4),
        "head/2/bias": (1,),
    }
    assert set(head_shapes(SPECS["one_layer"], 4)) == {"head/0/weight"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": "nonsense"}, "nonsense"),
        ({"layers": MAX_LAYERS + 1}, "layers"),
        ({"pooling": "tokens"}, "can not pool"),
        ({"problem_type": "token"}, "problem type"),
        ({"pooling": "pooler"}, "pooler"),
    ],
)
def test_heads_that_can_not_run_are_refused_with_a_reason(change, reason):
    assert any(
        reason in text for text in head_reasons(replace(SPECS["two_layers"], **change), HIDDEN, has_pooler=False)
    )


def test_all_reasons_come_at_once():
    wrong = replace(SPECS["tagging"], activation="nonsense", pooling="pooler", problem_type="span", layers=99)
    assert len(head_reasons(wrong, HIDDEN, has_pooler=False)) == 5


@pytest.mark.parametrize("activation", ["relu", "gelu_new", None])
def test_the_activation_stands_between_the_maps_and_not_behind_the_last(activation):
    spec = replace(SPECS["regression"], activation=activation)
    (held,) = heads(spec, 1)
    x = states([4])
    runs = Runs(((0, 4),), ((0, 4),), 4, torch.device("cpu"))
    y = x
    for i in range(3):
        y = y @ held[f"{i}.weight"].T + held[f"{i}.bias"]
        if i < 2 and activation == "relu":
            y = y.relu()
        if i < 2 and activation == "gelu_new":
            y = torch.nn.functional.gelu(y, approximate="tanh")
    assert torch.allclose(linear_maps(x, runs, spec, stacked([held])), y, atol=1e-4)
    assert y.shape == (4, 1)


def test_a_norm_stands_behind_every_activation_but_not_behind_the_last_map():
    spec = replace(SPECS["regression"], activation="relu", norm_eps=1e-3)
    (held,) = heads(spec, 1)
    assert {name for name in held if "norm" in name} == {
        f"{i}.norm.{kind}" for i in range(2) for kind in ("weight", "bias")
    }
    x = states([4])
    y = x
    for i in range(3):
        y = y @ held[f"{i}.weight"].T + held[f"{i}.bias"]
        if i < 2:
            norm = (held[f"{i}.norm.weight"], held[f"{i}.norm.bias"])
            y = torch.nn.functional.layer_norm(y.relu(), (HIDDEN,), *norm, 1e-3)
    got = linear_maps(x, Runs(((0, 4),), ((0, 4),), 4, torch.device("cpu")), spec, stacked([held]))
    torch.testing.assert_close(got, y)
