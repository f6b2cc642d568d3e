import pytest
import torch

from adapters.kernels.triton.low_rank import COLUMNS, WIDEST, fits, low_rank, share_of
from adapters.kernels.triton.tiles import ALIGN, PROGRAMS
from tests.adapters.kernels.triton.cases import DEVICE, Shelf, assert_close, batch_of, rows_of


@pytest.mark.parametrize(("wide", "rank", "out"), [(1, 1, 1), (24, 3, 100), (70, 8, 48), (48, 24, 130), (64, 64, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_every_segment_gets_its_own_update(wide, rank, out, dtype, biased):
    batch, shelf = batch_of([7, 33, 0, 1]), Shelf(dtype)
    downs, down = shelf.place(4, rank, wide, scale=wide**-0.5)
    ups, up = shelf.place(4, out, rank, scale=rank**-0.5)
    biases, bias = shelf.place(4, out)
    x, y = rows_of(batch.total, wide, dtype), rows_of(batch.total, out, dtype, seed=1)
    due = y.clone()
    for (start, end), a, b, c in zip(batch.bounds, downs, ups, biases, strict=True):
        update = x[start:end].double().cpu() @ a.double().T @ b.double().T + biased * c.double()
        due[start:end] = (due[start:end].double().cpu() + update).to(dtype).to(DEVICE)
    low_rank(x, y, batch.at, shelf.arena, down, up, rank, bias if biased else None)
    assert_close(y, due, dtype)
    assert torch.equal(y[batch.outside()], due[batch.outside()])


def test_any_mix_of_ranks_within_a_class_shares_a_launch():
    batch, shelf = batch_of([9] * 16), Shelf(torch.float32)
    downs, down = shelf.place(16, 16, 40, scale=0.2)
    ups, up = shelf.place(16, 30, 16)
    arena = shelf.arena
    for rank in range(1, 17):  # what folding does: rows of A and columns of B above the rank are zero
        place = rank - 1
        downs[place][rank:], ups[place][:, rank:] = 0, 0
        for start, value in ((down[place], downs[place]), (up[place], ups[place])):
            arena[start : start + value.numel()] = value.flatten().to(DEVICE)
    x, y = rows_of(batch.total, 40, torch.float32), torch.zeros(batch.total, 30, device=DEVICE)
    low_rank(x, y, batch.at, arena, down, up, 16)
    for i, (start, end) in enumerate(batch.bounds):
        own = downs[i][: i + 1].double(), ups[i][:, : i + 1].double()
        assert_close(y[start:end], x[start:end].double().cpu() @ own[0].T @ own[1].T, torch.float32)


def test_columns_are_shared_out_where_tiles_are_few_and_the_result_is_the_same():
    batch, shelf = batch_of([40]), Shelf(torch.float32)
    downs, down = shelf.place(1, 8, 32)
    ups, up = shelf.place(1, 3 * COLUMNS + 1, 8)
    x, y = rows_of(batch.total, 32, torch.float32), torch.zeros(batch.total, 3 * COLUMNS + 1, device=DEVICE)
    assert share_of(3 * COLUMNS + 1, 3) == COLUMNS
    low_rank(x, y, batch.at, shelf.arena, down, up, 8)
    start, end = batch.bounds[0]
    assert_close(y[start:end], x[start:end].double().cpu() @ downs[0].double().T @ ups[0].double().T, torch.float32)


@pytest.mark.parametrize("out", [1, 64, 65, 768, 3072])
@pytest.mark.parametrize("tiles", [1, 40, PROGRAMS, 1000])
def test_shares_are_whole_blocks_that_cover_all_columns_and_no_more_than_fill_the_device(out, tiles):
    share = share_of(out, tiles)
    assert share % COLUMNS == 0
    assert share >= COLUMNS
    parts = -(-out // share)
    assert parts == 1 or tiles * (parts - 1) < PROGRAMS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_in_its_row(dtype):
    batch, shelf = batch_of([20, 20], gap=0), Shelf(dtype)
    _, down = shelf.place(2, 3, 40)
    _, up = shelf.place(2, 8, 3)
    x, y = rows_of(batch.total, 40, dtype), torch.zeros(batch.total, 8, dtype=dtype, device=DEVICE)
    x[3, 39], x[25, 0] = torch.nan, torch.inf
    low_rank(x, y, batch.at, shelf.arena, down, up, 3)
    assert (~torch.isfinite(y)).any(1).nonzero().flatten().tolist() == [3, 25]
    assert not torch.isnan(y[25]).all()


def test_ranks_that_no_program_holds_are_refused():
    batch, shelf = batch_of([4]), Shelf(torch.float32)
    x = rows_of(batch.total, 8, torch.float32)
    at = torch.full((1,), ALIGN, device=DEVICE)
    assert fits(WIDEST)
    assert not fits(WIDEST + 1)
    assert not fits(0)
    with pytest.raises(ValueError, match="ranks from 1 to 256, not 257"):
        low_rank(x, x.clone(), batch.at, shelf.arena, at, at, WIDEST + 1)
    with pytest.raises(ValueError, match="up must be int64"):
        low_rank(x, x.clone(), batch.at, shelf.arena, at, at.int(), 1)
