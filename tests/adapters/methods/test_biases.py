import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.biases import BIASES
from adapters.weights import Block
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

VALUE = Address(0, "attn_v")
CONFIG = {"sites": {str(VALUE): {}}}
FITTING = operands.fitting()


def test_the_frozen_bias_gives_place_to_the_adapters_own():
    held = [operands.stored(BIASES, CONFIG, seed) for seed in (1, 2, 3)]
    operand = operands.operand([BIASES.fold(CONFIG, one, FITTING)[VALUE] for one in held])
    weight, bias, x = FITTING.weight(VALUE), FITTING.bias(VALUE), operands.tokens(HIDDEN, 1)
    y = x @ weight.T + bias
    out = BIASES.apply(BIASES.change(None, x, weight, operand), y, x, weight, operand)
    for got, row, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, row @ weight.T + held[segment][f"{VALUE}/bias"], atol=1e-5)
    assert not BIASES.settle(x, y, operand)


def test_it_starts_as_the_frozen_bias_and_neither_follows_nor_is_followed():
    start = BIASES.initialise(CONFIG, FITTING, torch.Generator())
    assert torch.equal(start[f"{VALUE}/bias"], FITTING.bias(VALUE))
    assert not BIASES.fold(CONFIG, start, FITTING)[VALUE].tensors["shift"].any()
    assert not BIASES.chains(Block("biases", None, {})) | BIASES.chains(Block("biases", None, {}), first=True)


@pytest.mark.parametrize("sites", [{"0/attn_v": {"rank": 2}}, {"0/ffn_norm": {}}, {"model/words": {}}])
def test_other_settings_and_places_are_refused(sites):
    with pytest.raises(Misfit):
        BIASES.shapes({"sites": sites}, FITTING)
