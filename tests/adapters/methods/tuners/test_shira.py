import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.shira import SHIRA
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, block, close, delta, stored

OUT, WIDE = WEIGHT.shape
COUNT = OUT + WIDE


def placed(rows, columns):
    return stored(SHIRA, {"rank": 1}) | {f"{SITE}/indices": torch.stack([rows, columns]).float()}


def test_single_entries_change_and_those_named_twice_add_up():
    rows, columns = torch.arange(COUNT) % OUT, torch.zeros(COUNT, dtype=torch.long)
    tensors = placed(rows, columns)
    want = torch.zeros(OUT, WIDE)
    for row, value in zip(rows.tolist(), tensors[f"{SITE}/weight"].tolist(), strict=True):
        want[row, 0] += value
    assert close(delta(block(SHIRA, {"rank": 1}, tensors)), want)


@pytest.mark.parametrize("outside", [-1, OUT])
def test_places_outside_of_the_matrix_are_refused(outside):
    rows = torch.zeros(COUNT)
    rows[3] = outside
    with pytest.raises(Misfit, match="lies outside of the matrix"):
        block(SHIRA, {"rank": 1}, placed(rows, torch.zeros(COUNT)))


def test_more_entries_than_the_matrix_has_are_refused():
    with pytest.raises(Misfit, match="entries are more than a matrix"):
        stored(SHIRA, {"rank": WIDE})
