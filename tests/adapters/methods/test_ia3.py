import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.ia3 import IA3, Factor, reference
from adapters.methods.lora import LORA
from adapters.weights import Block, Folded
from tests.adapters.builders import HIDDEN
from tests.adapters.methods import operands

KEY, WIDEN, NARROW = Address(0, "attn_k"), Address(0, "ffn_in"), Address(1, "ffn_out")
FITTING = operands.fitting()
OUTPUT, INPUT, GATED = Factor("output", 1.3, False), Factor("input", 1.3, False), Factor("output", 1.3, True)


def config(site: Factor, address: Address) -> dict:
    return {"sites": {str(address): vars(site)}}


def stored(site: Factor, address: Address, seed: int) -> dict[str, torch.Tensor]:
    held = operands.stored(IA3, config(site, address), seed)
    return {name.rsplit("/", 1)[1]: tensor for name, tensor in held.items()}


def block_of(site: Factor, address: Address, seed: int) -> Folded:
    held = operands.stored(IA3, config(site, address), seed)
    return IA3.fold(config(site, address), held, FITTING)[address]


@pytest.mark.parametrize(
    ("site", "address"), [(OUTPUT, KEY), (OUTPUT, WIDEN), (INPUT, NARROW), (GATED, KEY), (GATED, WIDEN)]
)
def test_equals_the_reference_of_every_row(site, address):
    weight, bias = FITTING.weight(address), FITTING.bias(address)
    operand = operands.operand([block_of(site, address, seed) for seed in (1, 2, 3)])
    x = operands.tokens(weight.shape[1], 1)
    out = IA3.apply(IA3.change(None, x, weight, operand), x @ weight.T + bias, x, weight, operand)
    for got, xr, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        assert torch.allclose(got, reference(site, stored(site, address, segment + 1), xr, weight, bias), atol=1e-4)


def test_stacked_factors_multiply():
    low, top = (operands.operand([block_of(OUTPUT, WIDEN, s) for s in seeds]) for seeds in ((1, 2, 3), (4, 5, 6)))
    weight, x = FITTING.weight(WIDEN), operands.tokens(HIDDEN, 1)
    y = x @ weight.T
    out = IA3.apply(IA3.change(IA3.change(None, x, weight, low), x, weight, top), y, x, weight, top)
    factor = 1.3**2 * stored(OUTPUT, WIDEN, 1)["scale"] * stored(OUTPUT, WIDEN, 4)["scale"]
    assert torch.allclose(out[:5], y[:5] * factor, atol=1e-5)


def test_over_a_lora_the_scaled_delta_multiplies_and_under_one_the_changed_factors_are_added():
    """AdapterHub lets the last adapter alone decide how the state meets the output."""
    lora = {"sites": {str(KEY): {"rank": 2, "scaling": 1.7}}}
    held = operands.stored(LORA, lora, 1)
    deltas = operands.operand([LORA.fold(lora, held, FITTING)[KEY]] * 3)
    factors, scale = operands.operand([block_of(OUTPUT, KEY, 2)] * 3), 1.3 * stored(OUTPUT, KEY, 2)["scale"]
    update = 1.7 * held["0/attn_k/lora_B"] @ held["0/attn_k/lora_A"]
    weight, x = FITTING.weight(KEY), operands.tokens(HIDDEN, 1)
    y = x @ weight.T
    over = IA3.apply(IA3.change(LORA.change(None, x, weight, deltas), x, weight, factors), y, x, weight, factors)
    under = LORA.apply(LORA.change(IA3.change(None, x, weight, factors), x, weight, deltas), y, x, weight, deltas)
    assert torch.allclose(over, y * (x @ update.T) * scale, atol=1e-4)
    assert torch.allclose(under, y + scale @ update.T, atol=1e-4)


def test_one_adapter_alone_spreads_its_factors_without_a_copy():
    operand = operands.operand([block_of(OUTPUT, KEY, 1)] * 3)
    single = type(operand)(operand.variant, type(operand.runs)(((0, 5),), ((0, 5),), 5, torch.device("cpu")), operand.params)  # fmt: skip
    state = IA3.change(None, operands.tokens(HIDDEN, 1)[:5], FITTING.weight(KEY), single)
    assert state.shape == (5, HIDDEN)
    assert state.stride(0) == 0


def test_factors_of_outputs_chain_anywhere_and_those_of_inputs_nowhere():
    for first in (False, True):
        assert IA3.chains(Block("ia3", "output", {}), first=first)
        assert not IA3.chains(Block("ia3", "input", {}), first=first)


def test_the_constant_factor_is_folded_in_unless_a_gate_replaces_it():
    assert torch.allclose(block_of(OUTPUT, KEY, 1).tensors["scale"], stored(OUTPUT, KEY, 1)["scale"] * 1.3)
    assert torch.equal(block_of(GATED, KEY, 1).tensors["scale"], stored(GATED, KEY, 1)["scale"])


def test_gradients_of_the_fold_are_those_of_finite_differences():
    held = {n: t.double().requires_grad_() for n, t in operands.stored(IA3, config(GATED, KEY), 1).items()}

    def folded(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        block = IA3.fold(config(GATED, KEY), dict(zip(held, values, strict=True)), FITTING)[KEY]
        return tuple(block.tensors.values())

    assert torch.autograd.gradcheck(folded, tuple(held.values()), fast_mode=True)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"at": "both"}, "'output', 'input'"),
        ({"at": "input", "gated": True}, "only factors of outputs have a gate"),
        ({"alpha": 2}, "unknown setting 'alpha'"),
    ],
)
def test_settings_that_no_library_has_are_refused(settings, reason):
    with pytest.raises(Misfit, match=reason):
        IA3.shapes({"sites": {"0/attn_k": settings}}, FITTING)


@pytest.mark.parametrize(("site", "settled"), [(OUTPUT, True), (INPUT, False), (GATED, False)])
def test_plain_factors_of_outputs_are_settled_in_the_place_of_the_output(site, settled):
    address = NARROW if site is INPUT else KEY
    operand = operands.operand([block_of(site, address, seed) for seed in (1, 2, 3)])
    weight, x = FITTING.weight(address), operands.tokens(FITTING.weight(address).shape[1], 1)
    wide = torch.cat([x @ weight.T] * 2, dim=1)
    y = wide.clone()[:, : len(weight)]  # some columns of a wider tensor
    expected = IA3.apply(IA3.change(None, x, weight, operand), y.clone(), x, weight, operand) if settled else y.clone()
    with torch.no_grad():
        assert IA3.settle(x, y, operand) is settled
    assert torch.equal(y, expected)


def test_factors_are_not_settled_where_gradients_flow():
    operand = operands.operand([block_of(OUTPUT, KEY, seed) for seed in (1, 2, 3)])
    assert not IA3.settle(operands.tokens(HIDDEN, 1), operands.tokens(HIDDEN, 2), operand)
