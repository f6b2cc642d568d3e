import math

import pytest
import torch

from loadtests.micro.agreement import apart

ONES, TWOS = torch.ones(4), 2 * torch.ones(4)


def test_a_distance_counts_in_mean_lengths_of_what_is_wanted():
    assert apart([ONES, TWOS], [ONES, TWOS]) == 0.0
    assert apart([ONES, ONES], [ONES, TWOS]) == pytest.approx(2 / 3)
    assert apart([TWOS, ONES], [ONES, TWOS]) == pytest.approx(2 / 3)


def test_the_worst_row_counts_however_many_are_right():
    assert apart([ONES] * 31 + [TWOS], [ONES] * 32) == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_infinitely_apart(bad):
    assert apart([torch.tensor([bad, 1.0])], [torch.tensor([1.0, 1.0])]) == math.inf


@pytest.mark.parametrize("found", [[], [ONES, ONES], [torch.ones(5)]])
def test_other_rows_and_other_shapes_are_infinitely_apart(found):
    assert apart(found, [ONES]) == math.inf
