import pytest
import torch
from torch.nn import functional

from adapters.kernels.triton import segmented
from adapters.kernels.triton.segmented import linear
from tests.adapters.kernels.triton.cases import DEVICE, Shelf, assert_close, batch_of, rows_of

WIDTHS = [(1, 1), (3, 48), (48, 3), (24, 65), (130, 24), (64, 64)]


@pytest.mark.parametrize(("wide", "out"), WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_every_segment_is_mapped_by_its_own_weights(wide, out, dtype, accumulate, biased):
    batch, shelf = batch_of([5, 0, 17, 1, 33]), Shelf(dtype)
    weights, weight = shelf.place(5, out, wide)
    biases, bias = shelf.place(5, out)
    x, y = rows_of(batch.total, wide, dtype), rows_of(batch.total, out, dtype, seed=1)
    due = y.clone()
    for (start, end), w, b in zip(batch.bounds, weights, biases, strict=True):
        mapped = functional.linear(x[start:end].double().cpu(), w.double(), b.double() if biased else None)
        due[start:end] = (mapped + accumulate * due[start:end].double().cpu()).to(dtype).to(DEVICE)
    linear(x, y, batch.at, shelf.arena, weight, bias if biased else None, accumulate=accumulate)
    assert_close(y, due, dtype)
    assert torch.equal(y[batch.outside()], due[batch.outside()])


@pytest.mark.parametrize("rows", [16, 32, 64])
def test_the_height_of_a_tile_changes_nothing(rows, monkeypatch):
    monkeypatch.setattr(segmented, "height", lambda *_: rows)
    batch, shelf = batch_of([70, 1, 64, 15]), Shelf(torch.float32)
    weights, weight = shelf.place(4, 24, 40)
    x, y = rows_of(batch.total, 40, torch.float32), torch.zeros(batch.total, 24, device=DEVICE)
    linear(x, y, batch.at, shelf.arena, weight)
    for (start, end), w in zip(batch.bounds, weights, strict=True):
        assert_close(y[start:end], x[start:end].double().cpu() @ w.double().T, torch.float32)


def test_a_nan_stays_in_its_row():
    batch, shelf = batch_of([20, 20], gap=0), Shelf(torch.float32)
    _, weight = shelf.place(2, 8, 40)
    x, y = rows_of(batch.total, 40, torch.float32), torch.zeros(batch.total, 8, device=DEVICE)
    x[3, 39] = torch.nan
    linear(x, y, batch.at, shelf.arena, weight)
    assert torch.isnan(y).any(1).nonzero().flatten().tolist() == [3]


def test_tensors_that_do_not_fit_together_are_refused():
    batch, shelf = batch_of([4]), Shelf(torch.float32)
    _, weight = shelf.place(1, 8, 8)
    x, y, at, arena = (
        rows_of(batch.total, 8, torch.float32),
        rows_of(batch.total, 8, torch.float32),
        batch.at,
        shelf.arena,
    )
    with pytest.raises(ValueError, match=r"y is torch\.bfloat16"):
        linear(x, y.bfloat16(), at, arena, weight)
    with pytest.raises(ValueError, match=r"float32 or bfloat16, not torch\.float16"):
        linear(x.half(), y.half(), at, arena.half(), weight)
    with pytest.raises(ValueError, match="x has 3 rows"):
        linear(x[:3], y, at, arena, weight)
    with pytest.raises(ValueError, match="last axis lies tight"):
        linear(x.t(), y, at, arena, weight)
    with pytest.raises(ValueError, match="the arena must be flat"):
        linear(x, y, at, arena.bfloat16(), weight)
    with pytest.raises(ValueError, match=r"bounds must be int32 \[segments, 2\], not torch\.int64"):
        linear(x, y, at.long(), arena, weight)
    with pytest.raises(ValueError, match="bounds is on meta"):
        linear(x, y, at.to("meta"), arena, weight)
    with pytest.raises(ValueError, match="weight must be int64"):
        linear(x, y, at, arena, weight.int())
    with pytest.raises(ValueError, match=r"bias must be int64 \[1\]"):
        linear(x, y, at, arena, weight, weight.repeat(2))
