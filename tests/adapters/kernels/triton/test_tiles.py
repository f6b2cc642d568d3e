import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from adapters.kernels.triton.tiles import ALIGN, PROGRAMS, capacity, height, lanes, parameter, tile_of
from adapters.weights import ALIGN as UNIT
from tests.adapters.kernels.triton.cases import DEVICE, batch_of


@triton.jit
def look(
    bounds: tl.tensor,
    segments: tl.tensor,
    found: tl.tensor,
    STEP: tl.constexpr,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    segment, first, last = tile_of(bounds, segments, STEP, ROWS, LANES)
    at = found + 3 * tl.program_id(0)
    tl.store(at, segment)
    tl.store(at + 1, first)
    tl.store(at + 2, last)


@triton.jit
def fetch(arena: tl.tensor, offsets: tl.tensor, found: tl.tensor) -> None:
    tl.store(found + tl.program_id(0), tl.load(parameter(arena, offsets, tl.program_id(0))))


def looked(bounds: torch.Tensor, segments: int, rows: int, size: int, step: int = 2) -> list[list[int]]:
    found = torch.full((size, 3), -7, dtype=torch.int32, device=DEVICE)
    look[(size,)](bounds, segments, found, STEP=step, ROWS=rows, LANES=lanes(segments))
    return [tile for tile in found.tolist() if tile[0] < segments]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rows", [16, 32, 64])
def test_programs_share_every_row_of_every_segment_out_among_them(seed, rows):
    rng = np.random.default_rng(seed)
    batch = batch_of(rng.integers(0, 150, size=rng.integers(1, 40)).tolist(), seed)
    segments, tokens = len(batch.bounds), sum(end - start for start, end in batch.bounds)
    taken = []
    for segment, first, last in looked(batch.at, segments, rows, capacity(tokens, segments, rows)):
        assert last == batch.bounds[segment][1]
        taken += [(segment, row) for row in range(first, min(first + rows, last))]
    assert len(taken) == len(set(taken))
    assert set(taken) == {(i, row) for i, (start, end) in enumerate(batch.bounds) for row in range(start, end)}


def test_rows_that_touch_are_found_from_their_starts_alone():
    starts = torch.tensor([0, 20, 20, 37], dtype=torch.int32, device=DEVICE)
    assert looked(starts, 3, 16, 6, step=1) == [[0, 0, 20], [0, 16, 20], [2, 20, 37], [2, 36, 37]]


def test_empty_segments_at_the_end_give_nobody_work():
    bounds = torch.tensor([[5, 22], [0, 0], [0, 0]], dtype=torch.int32, device=DEVICE)
    assert looked(bounds, 3, 16, 9) == [[0, 5, 22], [0, 21, 22]]
    assert looked(bounds[1:], 2, 16, 4) == []
    assert looked(bounds[:0], 0, 16, 1) == []


@pytest.mark.parametrize("rows", [16, 32, 64])
def test_the_capacity_is_enough_and_not_one_too_many(rows):
    worst = batch_of([1] * 7 + [1 + rows * 5])
    size = capacity(8 + rows * 5, 8, rows)
    assert len(looked(worst.at, 8, rows, size + 5)) == size
    assert capacity(0, 0, rows) == 1


def test_tiles_grow_with_the_batch_as_long_as_all_multiprocessors_have_one():
    def heights(dtype, *sizes):
        return [height(tokens, 1, dtype) for tokens in sizes]

    assert heights(torch.bfloat16, 1, 2048, 4095, 4096, 8191, 8192, 100_000) == [16, 16, 16, 32, 32, 64, 64]
    assert all(tokens // height(tokens, 1, torch.bfloat16) >= PROGRAMS for tokens in (2048, 4096, 8192, 16384))
    assert heights(torch.float32, 1, 4096, 100_000) == [16, 16, 16]


def test_a_tile_is_no_higher_than_segments_are():
    assert height(64 * 128, 64, torch.bfloat16) == 64
    assert height(256 * 32, 256, torch.bfloat16) == 32
    assert height(1024 * 8, 1024, torch.bfloat16) == 16


def test_few_kernels_serve_all_numbers_of_segments():
    assert [lanes(segments) for segments in (0, 1, 16, 17, 64, 65)] == [16, 16, 16, 32, 64, 128]


def test_parameters_are_found_by_their_offsets_and_begin_where_the_device_tier_puts_them():
    arena = torch.arange(100.0, device=DEVICE)
    found = torch.empty(3, device=DEVICE)
    fetch[(3,)](arena, torch.tensor([64, 0, 16], device=DEVICE), found)
    assert found.tolist() == [64.0, 0.0, 16.0]
    assert UNIT % ALIGN == 0
