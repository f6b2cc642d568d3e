import pytest
import torch
from torch.nn import functional

from adapters.kernels.cpu import Norm
from adapters.kernels.triton.add_norm import WIDEST, add_norm
from tests.adapters.kernels.triton.cases import DEVICE, assert_close, rows_of


def norm_of(width: int) -> Norm:
    rng = torch.Generator().manual_seed(width)
    return Norm(torch.randn(width, generator=rng).to(DEVICE), torch.randn(width, generator=rng).to(DEVICE), 0.03)


@pytest.mark.parametrize("width", [1, 3, 24, 48, 384, 768, 1000, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("summed", [False, True])
def test_it_is_the_norm_of_the_sum(width, dtype, summed):
    f, r, norm = rows_of(9, width, dtype), rows_of(9, width, dtype, seed=1), norm_of(width)
    x = f.double() + r.double() * summed
    due = functional.layer_norm(x, (width,), norm.weight.double(), norm.bias.double(), norm.eps)
    found = add_norm(f, r if summed else None, norm)
    assert found.dtype == dtype
    assert_close(found, due, dtype)


def test_weight_and_bias_may_be_missing():
    f = rows_of(5, 48, torch.float32)
    assert_close(add_norm(f, None, Norm(None, None, 1e-5)), functional.layer_norm(f.double(), (48,)), torch.float32)


def test_a_mean_far_from_zero_costs_no_digits():
    f = rows_of(4, 768, torch.float32) + 1000
    due = functional.layer_norm(f.double(), (768,))
    assert float((add_norm(f, None, Norm(None, None, 1e-5)).double() - due).abs().max()) < 2e-4


def test_a_nan_stays_in_its_row():
    f = rows_of(9, 48, torch.float32)
    f[4, 0] = torch.nan
    assert torch.isnan(add_norm(f, None, norm_of(48))).any(1).nonzero().flatten().tolist() == [4]


def test_no_rows_are_no_launch():
    assert add_norm(rows_of(0, 8, torch.float32), None, norm_of(8)).shape == (0, 8)


def test_what_does_not_fit_is_refused():
    f = rows_of(2, 8, torch.float32)
    with pytest.raises(ValueError, match=r"r must be \[2, 8\]"):
        add_norm(f, f[:1], norm_of(8))
    with pytest.raises(ValueError, match=r"the norm's weight must be \[8\]"):
        add_norm(f, None, norm_of(9))
    with pytest.raises(ValueError, match="the norm's bias must be float32"):
        add_norm(f, None, Norm(None, torch.zeros(8, dtype=torch.bfloat16, device=DEVICE), 1e-5))
    with pytest.raises(ValueError, match="wider than"):
        add_norm(torch.zeros(1, WIDEST + 1, device=DEVICE), None, Norm(None, None, 1e-5))
