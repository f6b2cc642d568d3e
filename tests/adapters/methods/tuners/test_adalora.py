import pytest
import torch

from adapters.methods.tuners.adalora import ADALORA
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored


@pytest.mark.parametrize(("alpha", "numerator"), [(16, 16.0), (0, 3.0), (-1, 3.0)])
def test_singular_values_over_the_rank_that_it_began_with(alpha, numerator):
    said = {"rank": 3, "init_rank": 7, "alpha": alpha}
    tensors = stored(ADALORA, said)
    held = at(tensors, SITE)
    want = held["B"] @ torch.diag(held["E"][:, 0]) @ held["A"] * numerator / (7 + 1e-5)
    made = block(ADALORA, said, tensors)
    assert made.method == "lora"
    assert close(delta(made), want)


def test_a_module_without_any_rank_changes_nothing():
    said = {"rank": 0, "init_rank": 7, "alpha": 1}
    assert stored(ADALORA, said) == {}
    assert torch.equal(delta(block(ADALORA, said, {})), torch.zeros_like(WEIGHT))
