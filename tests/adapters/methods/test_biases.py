import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.biases import BIASES, with_shift
from adapters.methods.lora import TURNED
from adapters.methods.table import METHODS
from adapters.methods.tuners.forms import full, product
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


@pytest.mark.parametrize("form", ["product", "full", "product with a bias", "full with a bias"])
def test_beside_a_tuner_it_is_added_to_what_that_folds_to(form):
    generator, own = torch.Generator().manual_seed(4), torch.linspace(-1, 1, HIDDEN)
    bias = own if form.endswith("bias") else None
    down, up = (torch.randn(shape, generator=generator) for shape in ((2, HIDDEN), (HIDDEN, 2)))
    tuner = product(down, up, TURNED, bias) if form.startswith("product") else full(up @ down, TURNED, bias)
    stored = operands.stored(BIASES, CONFIG, 3)
    both = with_shift(tuner, BIASES.fold(CONFIG, stored, FITTING)[VALUE])
    assert (both.method, both.variant) == (tuner.method, TURNED)
    weight, frozen, x = FITTING.weight(VALUE), FITTING.bias(VALUE), operands.tokens(HIDDEN, 1)
    operand, method = operands.operand([both] * 3), METHODS[both.method]
    out = method.apply(method.change(None, x, weight, operand), x @ weight.T + frozen, x, weight, operand)
    want = x @ (weight + up @ down).T + stored[f"{VALUE}/bias"] + (0 if bias is None else bias)
    assert torch.allclose(out, want, atol=1e-4)
