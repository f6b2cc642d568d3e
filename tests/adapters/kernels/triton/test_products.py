import pytest
import torch
import triton
import triton.language as tl

from adapters.kernels.triton.products import joined, product
from tests.adapters.kernels.triton.cases import DEVICE


@triton.jit
def multiply(a: tl.tensor, b: tl.tensor, c: tl.tensor) -> None:
    place = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    tl.store(c + place, product(tl.load(a + place), tl.load(b + place)))


@triton.jit
def moments(x: tl.tensor, found: tl.tensor, WIDTH: tl.constexpr, BLOCK: tl.constexpr) -> None:
    rows = tl.arange(0, 2)[:, None]
    seen, mean, spread = 0.0, tl.zeros((2,), tl.float32), tl.zeros((2,), tl.float32)
    for start in range(0, WIDTH, BLOCK):
        columns = start + tl.arange(0, BLOCK)[None, :]
        values = tl.load(x + rows * WIDTH + columns, mask=columns < WIDTH, other=0.0)
        seen, mean, spread = joined(values, columns < WIDTH, seen, mean, spread)
    tl.store(found + tl.arange(0, 2), mean)
    tl.store(found + 2 + tl.arange(0, 2), spread / WIDTH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_multiply_with_float32_sums(dtype):
    a, b = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype).to(DEVICE)
    c = torch.empty(16, 16, device=DEVICE)
    multiply[(1,)](a, b, c)
    assert torch.allclose(c, a.float() @ b.float(), atol=1e-5)


@pytest.mark.parametrize("width", [1, 3, 16, 50, 64, 100])
def test_moments_joined_block_by_block_are_those_of_the_whole_row(width):
    x = 1000 + torch.randn(2, width, generator=torch.Generator().manual_seed(width))
    found = torch.empty(4, device=DEVICE)
    moments[(1,)](x.to(DEVICE), found, WIDTH=width, BLOCK=16)
    due = torch.cat([x.double().mean(1), x.double().var(1, correction=0)])
    assert torch.allclose(found.double().cpu(), due, rtol=2e-5)
