import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.delta import DELTA
from adapters.methods.lora import TURNED
from adapters.methods.maps import MAPS
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

VALUE = Address(0, "attn_v")
FITTING = operands.fitting()


@pytest.mark.parametrize("biased", [True, False])
def test_the_frozen_map_gives_place_to_the_adapters_own(biased):
    config = {"sites": {str(VALUE): {"bias": biased}}}
    held = [operands.stored(MAPS, config, seed) for seed in (1, 2, 3)]
    folded = [MAPS.fold(config, one, FITTING)[VALUE] for one in held]
    assert {(one.method, one.variant) for one in folded} == {("delta", TURNED)}
    operand = operands.operand(folded)
    weight, bias, x = FITTING.weight(VALUE), FITTING.bias(VALUE), operands.tokens(HIDDEN, 1)
    y = x @ weight.T + bias
    out = DELTA.apply(DELTA.change(None, x, weight, operand), y, x, weight, operand)
    settled = y.clone()
    settled = settled if DELTA.settle(x, settled, operand) else out
    for made in (out, settled):
        for got, row, segment in zip(operands.rows(made), operands.rows(x), operands.OWNER, strict=True):
            own = held[segment].get(f"{VALUE}/bias", bias)
            assert torch.allclose(got, row @ held[segment][f"{VALUE}/weight"].T + own, atol=1e-5)


def test_it_starts_as_the_frozen_map():
    config = {"sites": {str(VALUE): {"bias": True}}}
    start = MAPS.initialise(config, FITTING, torch.Generator())
    assert torch.equal(start[f"{VALUE}/weight"], FITTING.weight(VALUE))
    assert not any(tensor.any() for tensor in MAPS.fold(config, start, FITTING)[VALUE].tensors.values())


@pytest.mark.parametrize("sites", [{"0/attn_v": {"rank": 2}}, {"0/ffn_norm": {}}, {"model/words": {}}])
def test_other_settings_and_places_are_refused(sites):
    with pytest.raises(Misfit):
        MAPS.shapes({"sites": sites}, FITTING)
