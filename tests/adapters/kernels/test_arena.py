import numpy as np
import pytest
import torch

from adapters.kernels.arena import Stacked

ALIGN = 4


@pytest.mark.parametrize("offsets", [(3,), (0, 2, 5), (7, 1, 1), (6, 0)])
def test_gathers_each_parameter_at_its_own_offset(offsets):
    arena = torch.arange(64.0)
    stacked = Stacked(arena, np.array(offsets), (2, 3), ALIGN)
    expected = torch.stack([arena[o * ALIGN : o * ALIGN + 6].view(2, 3) for o in offsets])
    assert torch.equal(stacked.all(), expected)
    for i in range(len(offsets)):
        assert torch.equal(stacked.one(i), expected[i])
        assert torch.equal(stacked.transposed(i), expected[i].t())


def test_the_last_parameter_may_end_with_the_arena():
    arena = torch.arange(16.0)
    assert Stacked(arena, np.array([0, 3]), (4,), ALIGN).all().tolist() == [[0, 1, 2, 3], [12, 13, 14, 15]]


def test_one_is_a_view_and_all_is_differentiable():
    arena = torch.arange(16.0, requires_grad=True)
    stacked = Stacked(arena, np.array([1, 2, 1]), (2,), ALIGN)
    assert stacked.one(0).data_ptr() == arena.data_ptr() + 4 * ALIGN
    stacked.all().sum().backward()
    assert arena.grad[4:10].tolist() == [2, 2, 0, 0, 1, 1]


def test_an_arena_that_is_part_of_a_larger_tensor_is_read_from_its_own_beginning():
    stacked = Stacked(torch.arange(32.0)[8:], np.array([1, 3]), (2,), ALIGN)
    assert stacked.all().tolist() == [[12, 13], [20, 21]] == [stacked.one(i).tolist() for i in range(2)]
    assert Stacked(
        torch.arange(32.0)[8:],
        np.array(
            [
                1,
            ]
        ),
        (2, 2),
        ALIGN,
    ).transposed(0).tolist() == [[12, 14], [13, 15]]
