import pytest
import torch

from adapters.methods.tuners.forms import full, product, shift
from tests.adapters.methods.tuners.formulas import delta


@pytest.mark.parametrize(("rank", "method"), [(3, "lora"), (8, "lora"), (9, "delta"), (40, "delta")])
def test_the_form_that_takes_fewer_numbers(rank, method):
    down, up = torch.randn(rank, 32), torch.randn(24, rank)
    made = product(down, up)
    assert made.method == method
    assert sum(t.numel() for t in made.tensors.values()) <= 24 * 32
    assert torch.allclose(delta(made), up @ down, atol=1e-5)


def test_a_variant_stays_with_its_change():
    assert product(torch.ones(1, 32), torch.ones(24, 1), "turned").variant == "turned"
    assert full(torch.ones(2, 3), "turned").variant == "turned"
    assert full(torch.ones(2, 3)).variant is None


@pytest.mark.parametrize(("rank", "name"), [(3, "bias"), (40, "shift")])
def test_what_is_added_to_the_bias_comes_along(rank, name):
    made = product(torch.ones(rank, 32), torch.ones(24, rank), bias=torch.arange(24.0))
    assert torch.equal(made.tensors[name], torch.arange(24.0))
    assert shift(torch.ones(3)).tensors.keys() == {"shift"}
