import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import BaseMap, Fitting
from adapters.methods.lora import LORA, LowRank
from adapters.methods.vera import VERA, reference
from tests.adapters.builders import HIDDEN, sites
from tests.adapters.methods import operands

VALUE = Address(1, "attn_v")
FITTING = operands.fitting()
SITES = {
    "vera": LowRank(5, 2.5),
    "dvora": LowRank(5, 2.5, dora="adapterhub"),
    "gated": LowRank(5, 2.5, gated=True),
}


def config(site: LowRank) -> dict:
    held = sites(("attn_q", "attn_v"), gated=site.gated, dora=site.dora)
    return {"rank": site.rank, "scaling": site.scaling, "sites": held}


def at(tensors: dict[str, torch.Tensor], place: object) -> dict[str, torch.Tensor]:
    return {n.removeprefix(f"{place}/"): t for n, t in tensors.items() if n.startswith(f"{place}/")}


@pytest.mark.parametrize("case", SITES)
def test_computed_as_lora_it_equals_the_reference_of_every_row(case):
    site, weight, bias = SITES[case], FITTING.weight(VALUE), FITTING.bias(VALUE)
    held = [operands.stored(VERA, config(site), seed) for seed in (1, 2, 3)]
    blocks = [VERA.fold(config(site), tensors, FITTING)[VALUE] for tensors in held]
    operand, x = operands.operand(blocks), operands.tokens(HIDDEN, 1)
    out = LORA.apply(LORA.change(None, x, weight, operand), x @ weight.T + bias, x, weight, operand)
    for got, xr, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        tensors = held[segment]
        want = reference(site, at(tensors, "model/vera"), at(tensors, VALUE), xr, weight, bias)
        assert torch.allclose(got, want, atol=1e-3)


def test_shares_operands_with_plain_lora_of_the_same_rank_class():
    vera = VERA.fold(config(SITES["vera"]), operands.stored(VERA, config(SITES["vera"]), 1), FITTING)[VALUE]
    lora = {"sites": {str(VALUE): {"rank": 7, "scaling": 1.0}}}
    plain = LORA.fold(lora, operands.stored(LORA, lora, 1), FITTING)[VALUE]
    assert (vera.method, vera.variant) == (plain.method, plain.variant)
    assert {n: t.shape for n, t in vera.tensors.items()} == {n: t.shape for n, t in plain.tensors.items()}


@pytest.mark.parametrize("case", SITES)
def test_starts_as_the_identity_with_random_shared_matrices(case):
    start = VERA.initialise(config(SITES[case]), FITTING, torch.Generator().manual_seed(0))
    assert all(start[f"model/vera/{name}"].abs().min() > 0 for name in ("lora_A", "lora_B"))
    assert torch.equal(start[f"{VALUE}/vera_D"], 0.1 * torch.eye(5))
    operand = operands.operand([VERA.fold(config(SITES[case]), start, FITTING)[VALUE]] * 3)
    weight, x = FITTING.weight(VALUE), operands.tokens(HIDDEN, 1)
    y = x @ weight.T
    assert torch.allclose(LORA.apply(LORA.change(None, x, weight, operand), y, x, weight, operand), y, atol=1e-4)


def test_gradients_of_the_fold_are_those_of_finite_differences():
    settings = {"rank": 2, "scaling": 2.5, "sites": {"0/attn_q": {"dora": "adapterhub"}}}
    held = {name: t.double().requires_grad_() for name, t in operands.stored(VERA, settings, 1).items()}
    exact = Fitting(
        FITTING.geometry, FITTING.architecture, lambda a: BaseMap(FITTING.weight(a).double(), FITTING.bias(a))
    )

    def folded(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        block = VERA.fold(settings, dict(zip(held, values, strict=True)), exact)[Address(0, "attn_q")]
        return tuple(block.tensors.values())

    assert torch.autograd.gradcheck(folded, tuple(held.values()), fast_mode=True)


def test_matrices_can_not_be_shared_by_maps_of_different_widths():
    with pytest.raises(Misfit, match="all of its sites must have the same widths"):
        VERA.shapes({"rank": 2, "scaling": 1.0, "sites": sites(("attn_q", "ffn_in"))}, FITTING)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sites": {"0/attn_q": {"rank": 3}}}, "rank must be the same everywhere"),
        ({"sites": {"0/attn_q": {"bias": True}}}, "unknown setting 'bias'"),
        ({"rank": 0, "sites": {"0/attn_q": {}}}, "config.rank must be a positive integer"),
        ({"sites": {}}, "matches no module"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(settings, reason):
    with pytest.raises(Misfit, match=reason):
        VERA.shapes({"rank": 2, "scaling": 1.0, **settings}, FITTING)
