import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.lokr import LOKR, factors
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize(
    ("rank", "both", "names"),
    [
        (1, False, {"w1", "w2_a", "w2_b"}),
        (1, True, {"w1_a", "w1_b", "w2_a", "w2_b"}),
        (50, True, {"w1", "w2"}),
    ],
)
def test_a_kronecker_product_of_whole_factors_or_of_products(site, rank, both, names):
    said = {"rank": rank, "alpha": 8, "both": both, "factor": -1}
    tensors = stored(LOKR, said, site)
    held = at(tensors, site)
    assert set(held) == names
    first = held["w1"] if "w1" in held else held["w1_a"] @ held["w1_b"]
    second = held["w2"] if "w2" in held else held["w2_a"] @ held["w2_b"]
    assert close(delta(block(LOKR, said, tensors, site)), torch.kron(first, second) * 8 / rank)


@pytest.mark.parametrize(
    ("width", "factor", "pair"),
    [
        (48, -1, (6, 8)),
        (48, 4, (4, 12)),
        (48, 12, (12, 4)),
        (48, 5, (4, 12)),
        (48, 7, (6, 8)),
        (7, -1, (1, 7)),
        (7, 3, (1, 7)),
        (36, -1, (6, 6)),
        (48, 0, (1, 48)),
    ],
)
def test_widths_are_split_as_lycoris_does(width, factor, pair):
    assert factors(width, factor) == pair


def test_a_factor_below_minus_one_is_refused():
    with pytest.raises(Misfit, match="factor must be -1, or an integer"):
        stored(LOKR, {"rank": 1, "alpha": 1, "both": False, "factor": -2})
