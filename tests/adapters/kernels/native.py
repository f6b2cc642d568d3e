"""What the tests of the compiled kernels share: layouts, and how close is close."""

from itertools import pairwise

import pytest
import torch

BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
# Of the largest expected value: float32 sums in another order, or three units in the last place of bfloat16.
CLOSE = {torch.float32: 2e-6, torch.bfloat16: 3 * 2**-8}


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(got, expected):
    assert got.shape == expected.shape
    apart = (got.double() - expected).abs().max()
    assert apart <= CLOSE[got.dtype] * expected.abs().max(), apart


def laid_out(bounds, shapes, dtype, seed=0):
    """An arena in which every segment's parameters stand in some order with gaps: (arena, offsets by name)."""
    generator = torch.Generator().manual_seed(seed)
    offsets, size = {name: [0] * len(bounds) for name in shapes}, 3
    for segment in torch.randperm(len(bounds), generator=generator).tolist():
        for name, shape in shapes.items():
            offsets[name][segment] = size
            size += torch.Size(shape).numel() + 5
    arena = torch.full((size,), float("nan"))  # what nobody may read
    for name, shape in shapes.items():
        for offset in offsets[name]:
            count = torch.Size(shape).numel()
            arena[offset : offset + count] = torch.randn(count, generator=generator) * shape[-1] ** -0.5
    return arena.to(dtype), {name: torch.tensor(found) for name, found in offsets.items()}


def taken(arena, offset, shape):
    """One parameter in float64."""
    return arena[offset : offset + torch.Size(shape).numel()].view(shape).double()


def segments(count, rows, seed=0):
    """Ranges of rows, out of order, with gaps, none twice, some empty; int32 [count, 2]."""
    if count == 1:
        return torch.tensor([[0, rows]], dtype=torch.int32)
    generator = torch.Generator().manual_seed(seed)
    cuts = torch.randint(0, rows + 1, (2 * count,), generator=generator).sort().values.view(count, 2)
    return cuts[torch.randperm(count, generator=generator)].to(torch.int32)


def rest_of(bounds, rows):
    """The rows outside of all segments."""
    inside = {row for start, end in bounds.tolist() for row in range(start, end)}
    return [row for row in range(rows) if row not in inside]


def starts_of(lengths):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32)


def ranges_of(starts):
    return list(pairwise(starts.tolist()))


def in_threads(count, run):
    """run() with so many threads of torch."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        return run()
    finally:
        torch.set_num_threads(before)
