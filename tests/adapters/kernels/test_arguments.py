import ctypes

import pytest
import torch

from adapters.kernels.arguments import NO_PREFIXES, Prefixes, entries, norm_at, segments_of, start, stride

FLOAT = torch.float32


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.zeros(4, 6), 6),
        (torch.zeros(4, 6)[:, :2], 6),
        (torch.zeros(4, 6)[::2], 12),
        (torch.zeros(4, 1).t()[:, :1].expand(4, 1), 0),
        (torch.zeros(5, 3, 2, 4)[:, 1], 24),
        (torch.zeros(5, 4, 2)[..., :1].transpose(1, 2), 8),
    ],
    ids=["tight", "columns", "every other", "one row", "a third", "single"],
)
def test_the_stride_of_rows_is_that_of_their_first_axis(x, expected):
    if x.stride()[-1] != 1 and x.shape[-1] != 1:
        with pytest.raises(ValueError, match="must lie tight within a row"):
            stride("x", x, FLOAT, x.shape)
    else:
        assert stride("x", x, FLOAT, x.shape) == expected


@pytest.mark.parametrize(
    "x", [torch.zeros(4, 6).t(), torch.zeros(4, 6)[:, ::2], torch.zeros(4, 2, 3).transpose(1, 2)], ids=str
)
def test_rows_that_do_not_lie_tight_are_refused(x):
    with pytest.raises(ValueError, match=r"x must lie tight within a row: call contiguous\(\) first"):
        stride("x", x, FLOAT, x.shape)


@pytest.mark.parametrize(
    "x", [torch.zeros(4, 5), torch.zeros(4, 6).double(), torch.zeros(4, 6, device="meta")], ids=str
)
def test_another_shape_type_or_device_is_refused_with_what_was_found(x):
    with pytest.raises(ValueError, match=r"x must be torch.float32 \[4, 6\] on the CPU, not torch.float"):
        stride("x", x, FLOAT, (4, 6))


def test_tables_have_one_type_and_lie_tight():
    assert entries("t", torch.zeros(3, dtype=torch.int32), torch.int32) == 3
    for wrong in (
        torch.zeros(3),
        torch.tensor(3, dtype=torch.int32),
        torch.zeros(6, dtype=torch.int32)[::2],
        torch.zeros(3, dtype=torch.int32, device="meta"),
    ):
        with pytest.raises(ValueError, match=r"t must be torch.int32, contiguous, on the CPU and no scalar"):
            entries("t", wrong, torch.int32)


def test_segments_need_an_offset_each():
    bounds, arena, two = torch.zeros(2, 2, dtype=torch.int32), torch.zeros(9), torch.tensor([0, 4])
    assert segments_of(bounds, arena, FLOAT, weight=two, bias=None) == 2
    for wrong in (two[:1], two.view(2, 1)):
        with pytest.raises(ValueError, match="weight must hold one offset for each of 2 segments"):
            segments_of(bounds, arena, FLOAT, weight=wrong)
    with pytest.raises(ValueError, match=r"weight must be torch.int64"):
        segments_of(bounds, arena, FLOAT, weight=two.int())
    with pytest.raises(ValueError, match=r"bounds must be \[segments, 2\]"):
        segments_of(bounds.view(1, 4), arena, FLOAT)
    for wrong in (arena.view(3, 3), arena.double(), torch.zeros(18)[::2]):
        with pytest.raises(ValueError, match=r"arena must be torch.float32, flat, contiguous"):
            segments_of(bounds, wrong, FLOAT)


def test_a_norm_may_lack_its_vectors_but_not_their_width():
    weight = torch.ones(4)
    assert norm_at(weight, None, 4) == (weight.data_ptr(), 0)
    for wrong in (torch.ones(5), torch.ones(4, 1)):
        with pytest.raises(ValueError, match=r"the norm's bias must be \[4\]"):
            norm_at(weight, wrong, 4)
    assert start(None) == 0


def test_every_row_has_its_prefix_and_its_length_in_the_tables():
    prefixes = {0: torch.zeros(2, 3, 8), 2: torch.zeros(2, 1, 8)}
    held = Prefixes.of(prefixes, 4, FLOAT, 8)
    assert [*(ctypes.c_int * 4).from_address(held.lengths)] == [3, 0, 1, 0]
    addresses = [*(ctypes.c_void_p * 4).from_address(held.starts)]
    assert addresses == [prefixes[0].data_ptr(), None, prefixes[2].data_ptr(), None]
    assert (NO_PREFIXES.starts, NO_PREFIXES.lengths) == (0, 0)


@pytest.mark.parametrize(
    ("prefixes", "words"),
    [
        ({4: torch.zeros(2, 3, 8)}, "prefixes names row 4, and there are 4"),
        ({1: torch.zeros(2, 3, 7)}, "the prefix of row 1 must be"),
        ({1: torch.zeros(3, 3, 8)}, "the prefix of row 1 must be"),
        ({1: torch.zeros(2, 6, 8)[:, ::2]}, "the prefix of row 1 must"),
        ({1: torch.zeros(4, 3, 8)[::2]}, "the prefix of row 1 must be contiguous"),
        ({1: torch.zeros(2, 3, 8, dtype=torch.bfloat16)}, "the prefix of row 1 must be torch.float32"),
    ],
)
def test_prefixes_that_a_kernel_would_misread_are_refused(prefixes, words):
    with pytest.raises(ValueError, match=words):
        Prefixes.of(prefixes, 4, FLOAT, 8)
