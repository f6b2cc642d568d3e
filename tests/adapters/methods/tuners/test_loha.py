import pytest

from adapters.methods.tuners.loha import LOHA
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize(("rank", "form"), [(1, "lora"), (2, "lora"), (9, "delta")])
def test_two_products_entry_by_entry_in_the_cheaper_form(site, rank, form):
    said = {"rank": rank, "alpha": 8}
    tensors = stored(LOHA, said, site)
    held = at(tensors, site)
    made = block(LOHA, said, tensors, site)
    assert made.method == form
    assert close(delta(made), (held["w1_a"] @ held["w1_b"]) * (held["w2_a"] @ held["w2_b"]) * 8 / rank)
