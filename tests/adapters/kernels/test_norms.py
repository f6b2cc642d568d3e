import pytest
import torch

from adapters.kernels.choice import kernels_of
from adapters.kernels.norms import FrozenNorm, wide


def norm(width, dtype=torch.float32, *, biased=True):
    made = torch.Generator().manual_seed(1)
    weight, bias = (torch.randn(width, generator=made).to(dtype) for _ in range(2))
    return FrozenNorm(weight, bias if biased else None, 1e-5)


@pytest.mark.parametrize("biased", [True, False])
def test_the_norm_of_a_sum_is_the_same_with_kernels_and_without(biased):
    f, r = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(2))
    held = norm(24, biased=biased)
    kernels = kernels_of(f.device).kernels
    assert kernels is not None
    with torch.inference_mode():
        plain = held.of_sum(f, r, None)
        assert torch.equal(plain, torch.nn.functional.layer_norm(f + r, (24,), held.weight, held.bias, 1e-5))
        assert torch.allclose(held.of_sum(f, r, kernels), plain, atol=2e-6)


def test_types_that_no_kernel_knows_are_torch_s():
    f, r = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    held = norm(8, torch.float64)
    assert torch.equal(held.of_sum(f, r, kernels_of(f.device).kernels), held(f + r))


def test_kernels_get_the_norm_in_float32():
    held = norm(8, torch.bfloat16)
    assert wide(held).weight.dtype is wide(held).bias.dtype is torch.float32
    assert wide(norm(8, biased=False)).bias is None
    assert wide(None) is None


def test_bare_is_the_norm_before_its_weight_and_bias():
    x, held = torch.randn(9, 24, generator=torch.Generator().manual_seed(2)), norm(24)
    assert torch.allclose(held.bare(x) * held.weight + held.bias, held(x), atol=1e-6)


def test_a_norm_by_mean_squares_has_no_mean_and_no_bias():
    x, weight = torch.randn(9, 24, generator=torch.Generator().manual_seed(2)) + 3.0, torch.rand(24) + 0.5
    held = FrozenNorm(weight, None, 1e-6, rms=True)
    root = (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(held.bare(x), x / root, atol=1e-6)
    assert torch.allclose(held(x), weight * x / root, atol=1e-6)
    with torch.inference_mode():
        assert torch.equal(held.of_sum(x, x, kernels_of(x.device).kernels), held(x + x))
    assert held.bare(x.bfloat16()).dtype is torch.bfloat16
