from adapters.methods.tuners.hira import HIRA
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored


def test_a_factor_for_every_entry_of_the_frozen_map():
    tensors = stored(HIRA, {"rank": 3})
    made = block(HIRA, {"rank": 3}, tensors)
    assert made.variant is None  # several of them add up, as in PEFT
    assert close(delta(made), WEIGHT * (at(tensors, SITE)["B"] @ at(tensors, SITE)["A"]))
