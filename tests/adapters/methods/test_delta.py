from dataclasses import replace

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.kernels.choice import kernels_of
from adapters.methods.base import Operand
from adapters.methods.delta import DELTA
from adapters.methods.lora import TURNED
from adapters.methods.tuners.forms import full
from adapters.weights import Block, Span
from tests.adapters.methods import operands

FITTING = operands.fitting()
SITE = "1/ffn_in"
CONFIG = {"sites": {SITE: {}}}
PLACE = Address.parse(SITE)


def made():
    held = [operands.stored(DELTA, CONFIG, seed) for seed in (1, 2, 3)]
    return held, operands.operand([DELTA.fold(CONFIG, tensors, FITTING)[PLACE] for tensors in held])


def test_every_row_gets_its_own_adapter_s_change():
    (held, operand), weight, bias = made(), FITTING.weight(PLACE), FITTING.bias(PLACE)
    x = operands.tokens(weight.shape[1], 1)
    y = x @ weight.T + bias
    out = DELTA.apply(DELTA.change(None, x, weight, operand), y, x, weight, operand)
    for got, own, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        want = own @ (weight + held[segment][f"{SITE}/delta"]).T + bias
        assert torch.allclose(got, want, atol=1e-4)


def test_kernels_compute_the_same_in_one_call_and_refuse_where_there_are_none():
    _, operand = made()
    weight = FITTING.weight(PLACE)
    x = operands.tokens(weight.shape[1], 1)
    y = x @ weight.T
    want = DELTA.apply(DELTA.change(None, x, weight, operand), y, x, weight, operand)
    assert not DELTA.settle(x, y.clone(), operand)
    runs = operand.runs
    quick = Operand(
        operand.variant,
        type(runs)(runs.bounds, runs.rows, runs.total, runs.device, kernels_of(torch.device("cpu")).kernels),
        operand.params,
    )
    if quick.runs.kernels is None:
        return
    with torch.no_grad():
        out = y.clone()
        assert DELTA.settle(x, out, quick)
    assert torch.allclose(out, want, atol=1e-4)


def test_no_kernel_leaves_a_shift_out():
    tensors, out = operands.stored(DELTA, CONFIG, 1)[f"{SITE}/delta"], FITTING.widths("ffn_in")[1]
    operand = operands.operand([full(tensors, bias=torch.ones(out) * seed) for seed in range(3)])
    runs, kernels = operand.runs, kernels_of(torch.device("cpu")).kernels
    quick = replace(operand, runs=type(runs)(runs.bounds, runs.rows, runs.total, runs.device, kernels))
    x = operands.tokens(FITTING.widths("ffn_in")[0], 1)
    with torch.no_grad():
        assert not DELTA.settle(x, torch.zeros(len(x), out), quick)


def test_starts_as_the_identity():
    start = DELTA.initialise(CONFIG, FITTING, torch.Generator())
    assert not start[f"{SITE}/delta"].any()


@pytest.mark.parametrize(
    ("shape", "variant", "first", "follows"),
    [((8, 8), None, True, True), ((8, 4), None, True, False), ((8, 8), TURNED, False, False)],
)
def test_what_adds_chains_where_its_map_takes_a_state(shape, variant, first, follows):
    block = Block("delta", variant, {"delta": Span(0, shape)})
    assert DELTA.chains(block, first=True) is first
    assert DELTA.chains(block) is follows


def test_a_site_has_no_settings():
    with pytest.raises(Misfit, match="unknown setting 'rank'"):
        DELTA.shapes({"sites": {SITE: {"rank": 2}}}, FITTING)
