import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.places import check_places, drawn


def test_values_stand_where_the_seed_draws_them():
    made = drawn(torch.tensor([1.0, 2.0]), 4, (3, 5))
    order = torch.randperm(15, generator=torch.Generator().manual_seed(4))
    assert made.shape == (3, 5)
    assert made.view(-1)[order].tolist() == [1.0, 2.0, *[0.0] * 13]


def test_as_many_places_as_there_are_and_no_more():
    check_places(15, (3, 5))
    with pytest.raises(Misfit, match="16 entries are more than a matrix of 5 x 3"):
        check_places(16, (3, 5))
