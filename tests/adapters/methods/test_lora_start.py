import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.lora import LORA
from tests.adapters.methods import operands

FITTING = operands.fitting()
SITES = ("1/attn_v", "1/ffn_in", "1/ffn_out")


def taken(start, weight, rank):
    """What PEFT takes out of W."""
    if start == "pissa":
        U, S, V = torch.linalg.svd(weight, full_matrices=False)
        return U[:, :rank] @ torch.diag(S[:rank]) @ V[:rank]
    if start == "kasa":
        U, S, V = torch.linalg.svd(weight, full_matrices=False)
        return U[:, -rank:] @ torch.diag(S[-rank:]) @ V[-rank:]
    Q, R = torch.linalg.qr(weight)
    return 2.0 * Q[:, :rank] @ R[:rank]  # at the adapter's scaling


@pytest.mark.parametrize("start", ["pissa", "olora", "kasa"])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("more", [{}, {"bias": True}, {"dora": "peft"}])
def test_the_start_is_taken_out_of_the_frozen_map(start, site, more):
    config = {"sites": {site: {"rank": 3, "scaling": 2.0, "start": start, **more}}}
    tensors, place = operands.stored(LORA, config, 1), Address.parse(site)
    weight, bias = FITTING.weight(place), FITTING.bias(place)
    held = {name.removeprefix(f"{site}/"): t for name, t in tensors.items()}
    rest = weight - taken(start, weight, 3)
    x = operands.tokens(weight.shape[1], 1)
    change = 2 * held["lora_B"] @ held["lora_A"]
    gain = held["magnitude"] / (rest + change).norm(dim=1) if more.get("dora") else 1
    want = gain * (x @ (rest + change).T) + bias + 2 * held.get("lora_bias", torch.zeros(()))
    operand = operands.operand([LORA.fold(config, tensors, FITTING)[place]] * 3)
    out = LORA.apply(LORA.change(None, x, weight, operand), x @ weight.T + bias, x, weight, operand)
    assert torch.allclose(out, want, atol=2e-4)


@pytest.mark.parametrize("more", [{"gated": True}, {"start": "corda"}])
def test_starts_that_can_not_be_repeated_are_refused(more):
    config = {"sites": {SITES[0]: {"rank": 3, "scaling": 2.0, "start": "pissa", **more}}}
    with pytest.raises(Misfit, match=r"no start|start must be one of"):
        LORA.shapes(config, FITTING)


def test_it_is_not_trained_here():
    config = {"sites": {SITES[0]: {"rank": 3, "scaling": 2.0, "start": "olora"}}}
    with pytest.raises(Misfit, match="trained by PEFT"):
        LORA.initialise(config, FITTING, torch.Generator())
