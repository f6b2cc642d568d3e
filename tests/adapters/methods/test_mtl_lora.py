import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.lora import LORA, LowRank
from adapters.methods.mtl_lora import MTL_LORA, reference
from tests.adapters.builders import HIDDEN, sites
from tests.adapters.methods import operands

KEY = Address(0, "attn_k")
FITTING = operands.fitting()
SHARPNESS = 0.4


def config(*, gated: bool = False, sharpness: float = SHARPNESS) -> dict:
    held = sites(("attn_k", "ffn_out"), rank=3, scaling=1.5, gated=gated)
    return {"projections": 2, "sharpness": sharpness, "sites": held}


def at(tensors: dict[str, torch.Tensor], place: object) -> dict[str, torch.Tensor]:
    return {n.removeprefix(f"{place}/"): t for n, t in tensors.items() if n.startswith(f"{place}/")}


@pytest.mark.parametrize("address", [KEY, Address(1, "ffn_out")])
@pytest.mark.parametrize("gated", [False, True])
def test_computed_as_lora_it_equals_the_reference_of_every_row(gated, address):
    site, weight, bias = LowRank(3, 1.5, gated=gated), FITTING.weight(address), FITTING.bias(address)
    held = [operands.stored(MTL_LORA, config(gated=gated), seed) for seed in (1, 2, 3)]
    blocks = [MTL_LORA.fold(config(gated=gated), tensors, FITTING)[address] for tensors in held]
    operand, x = operands.operand(blocks), operands.tokens(weight.shape[1], 1)
    out = LORA.apply(LORA.change(None, x, weight, operand), x @ weight.T + bias, x, weight, operand)
    for got, xr, segment in zip(operands.rows(out), operands.rows(x), operands.OWNER, strict=True):
        want = reference(site, SHARPNESS, at(held[segment], address), xr, weight, bias)
        assert torch.allclose(got, want, atol=1e-4)


def test_shares_operands_with_plain_lora_of_the_same_rank_class():
    block = MTL_LORA.fold(config(), operands.stored(MTL_LORA, config(), 1), FITTING)[KEY]
    assert (block.method, block.variant) == ("lora", None)
    assert {n: tuple(t.shape) for n, t in block.tensors.items()} == {"down": (8, HIDDEN), "up": (HIDDEN, 8)}


def test_a_sharpness_at_which_exponentials_overflow_still_gives_shares():
    tensors = operands.stored(MTL_LORA, config(), 1)
    tensors[f"{KEY}/weights"] = torch.tensor([2.0, 1.0])
    up = MTL_LORA.fold(config(sharpness=0.01), tensors, FITTING)[KEY].tensors["up"]
    assert torch.allclose(up[:, :3], 1.5 * tensors[f"{KEY}/lora_B"][0] * tensors[f"{KEY}/task"], atol=1e-5)


def test_starts_as_the_identity():
    start = MTL_LORA.initialise(config(), FITTING, torch.Generator().manual_seed(0))
    assert torch.equal(start[f"{KEY}/task"], torch.ones(3))
    assert start[f"{KEY}/lora_A"].abs().min() > 0
    assert not MTL_LORA.fold(config(), start, FITTING)[KEY].tensors["up"].any()


def test_gradients_of_the_fold_are_those_of_finite_differences():
    settings = {**config(), "sites": {str(KEY): {"rank": 2, "scaling": 1.5}}}
    held = {name: t.double().requires_grad_() for name, t in operands.stored(MTL_LORA, settings, 1).items()}

    def folded(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(MTL_LORA.fold(settings, dict(zip(held, values, strict=True)), FITTING)[KEY].tensors.values())

    assert torch.autograd.gradcheck(folded, tuple(held.values()), fast_mode=True)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sharpness": 0}, "sharpness must be a number above zero, not 0"),
        ({"projections": 0}, "projections must be an integer"),
        ({"sites": {"0/attn_q": {"rank": 2, "scaling": 1.0, "dora": "adapterhub"}}}, "unknown setting 'dora'"),
    ],
)
def test_settings_that_no_library_has_are_refused(settings, reason):
    with pytest.raises(Misfit, match=reason):
        MTL_LORA.shapes({**config(), **settings}, FITTING)
