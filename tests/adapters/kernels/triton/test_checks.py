import pytest
import torch

from adapters.kernels.triton.checks import check_rows, check_segments, check_shape

X = torch.zeros(4, 6)
BOUNDS = torch.zeros(2, 2, dtype=torch.int32)
AT = torch.zeros(2, dtype=torch.int64)


def test_rows_may_be_parts_of_wider_rows_and_one_column_of_anything():
    check_rows(X, x=X, part=X[:, 2:4], column=X.t()[:, :1])


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (X.t(), r"y must be rows \[n, width\] whose last axis lies tight, not \(6, 4\)"),
        (X[:, ::2], "whose last axis lies tight"),
        (X[0], "must be rows"),
        (X.bfloat16(), r"y is torch\.bfloat16 on cpu, but torch\.float32 on cpu is due"),
        (X.to("meta"), r"y is torch\.float32 on meta"),
    ],
)
def test_what_is_no_rows_is_refused_by_name(tensor, reason):
    with pytest.raises(ValueError, match=reason):
        check_rows(X, x=X, y=tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_types_that_kernels_do_not_know_are_refused(dtype):
    with pytest.raises(ValueError, match="kernels take float32 or bfloat16"):
        check_rows(X.to(dtype))


def test_a_shape_is_told_with_the_one_that_is_due():
    check_shape("y", X, (4, 6))
    with pytest.raises(ValueError, match=r"y must be \[4, 7\], not \[4, 6\]"):
        check_shape("y", X, (4, 7))


def test_segments_are_counted():
    assert check_segments(X, BOUNDS, torch.zeros(8), weight=AT, bias=None) == 2
    assert check_segments(X, BOUNDS[:0], torch.zeros(0), weight=AT[:0]) == 0


@pytest.mark.parametrize(
    ("bounds", "arena", "weight", "reason"),
    [
        (BOUNDS.long(), torch.zeros(8), AT, r"bounds must be int32 \[segments, 2\], not torch\.int64"),
        (BOUNDS.flatten(), torch.zeros(8), AT, "bounds must be int32"),
        (BOUNDS.t(), torch.zeros(8), AT, "bounds must be int32"),
        (BOUNDS, torch.zeros(2, 4), AT, r"arena must be flat and torch\.float32, not torch\.float32 \[2, 4\]"),
        (BOUNDS, torch.zeros(8)[::2], AT, "arena must be flat"),
        (BOUNDS, torch.zeros(8).bfloat16(), AT, "arena must be flat"),
        (BOUNDS, torch.zeros(8), AT[:1], r"weight must be int64 \[2\], not torch\.int64 \[1\]"),
        (BOUNDS, torch.zeros(8), AT.int(), "weight must be int64"),
        (BOUNDS, torch.zeros(8), torch.zeros(4, dtype=torch.int64)[::2], "weight must be int64"),
        (BOUNDS.to("meta"), torch.zeros(8), AT, "bounds is on meta, but cpu is due"),
        (BOUNDS, torch.zeros(8), AT.to("meta"), "weight is on meta"),
        (BOUNDS, torch.zeros(8).to("meta"), AT, "the arena is on meta"),
    ],
)
def test_tables_that_a_kernel_would_read_wrongly_are_refused(bounds, arena, weight, reason):
    with pytest.raises(ValueError, match=reason):
        check_segments(X, bounds, arena, weight=weight)
