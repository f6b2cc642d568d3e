"""What the libraries' processes share."""

import torch
from torch import nn

from tests.oracle.workers.shared import doubled, rounding_of


def test_rounding_is_the_distance_of_a_librarys_float32_from_its_float64():
    torch.manual_seed(3)
    layer, rows = nn.Linear(64, 8), {"x": torch.randn(3, 64) * 100}
    with torch.no_grad():
        found = {"logits": layer(rows["x"])}
        told = rounding_of(found, lambda: {"logits": layer.double()(doubled(rows)["x"])})
    assert set(told) == {"logits"}
    assert 0 < told["logits"] < 1e-3


def test_a_formula_that_is_wrong_in_both_gains_nothing():
    wrong = {"logits": torch.tensor([1.5])}
    assert rounding_of(wrong, lambda: doubled(wrong)) == {"logits": 0.0}


def test_what_does_not_run_in_float64_tells_nothing():
    def mixed():
        return {"logits": torch.ones(2, 2).double() @ torch.ones(2, 2)}

    assert rounding_of({"logits": torch.ones(2, 2)}, mixed) == {}


def test_what_is_not_finite_in_float64_tells_nothing():
    found = {"logits": torch.ones(2), "hidden_state": torch.zeros(2)}
    exact = {"logits": torch.full((2,), torch.nan).double(), "hidden_state": torch.zeros(2).double()}
    assert rounding_of(found, lambda: exact) == {"hidden_state": 0.0}


def test_ids_stay_ids():
    given = doubled({"input_ids": torch.tensor([1, 2]), "pixel_values": torch.ones(2)})
    assert (given["input_ids"].dtype, given["pixel_values"].dtype) == (torch.int64, torch.float64)
