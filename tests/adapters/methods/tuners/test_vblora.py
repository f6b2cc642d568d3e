import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.vblora import VBLORA
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight

SAID = {"rank": 3, "vectors": 6, "length": 4, "best": 2, "best_only": False}


def mixed(logits, bank, best):
    """Sub-vectors by hand: the bank's best ones, weighted by the softmax of their own logits."""
    found = torch.zeros(*logits.shape[:2], bank.shape[1])
    for i in range(logits.shape[0]):
        for j in range(logits.shape[1]):
            order = sorted(range(len(bank)), key=lambda v: -float(logits[i, j, v]))[:best]
            weights = torch.softmax(logits[i, j, order], 0)
            found[i, j] = sum(weight * bank[v] for weight, v in zip(weights, order, strict=True))
    return found


def wanted(logits_a, logits_b, bank, best, site):
    out, wide = weight(site).shape
    down = mixed(logits_a, bank, best).reshape(3, wide)
    up = torch.cat([part.T for part in mixed(logits_b, bank, best)])
    assert up.shape == (out, 3)
    return up @ down


@pytest.mark.parametrize("site", [SITE, UP])
def test_low_rank_matrices_out_of_the_bank(site):
    tensors = stored(VBLORA, SAID, site)
    held, bank = at(tensors, site), tensors["model/vblora/bank"]
    want = wanted(held["logits_A"], held["logits_B"], bank, 2, site)
    assert close(delta(block(VBLORA, SAID, tensors, site)), want)


@pytest.mark.parametrize("best", [1, 3])
def test_the_best_alone_say_the_same(best):
    said = {**SAID, "best": best}
    tensors = stored(VBLORA, said)
    short = {"model/vblora/bank": tensors["model/vblora/bank"]}
    for name in "AB":
        logits, indices = tensors[f"{SITE}/logits_{name}"].topk(best)
        short[f"{SITE}/indices_{name}"] = indices.float()
        if best > 1:
            short[f"{SITE}/weights_{name}"] = torch.softmax(logits, -1)[..., :-1]
    only = {**said, "best_only": True}
    assert {name: t.shape for name, t in stored(VBLORA, only).items()} == {n: t.shape for n, t in short.items()}
    assert close(delta(block(VBLORA, only, short)), delta(block(VBLORA, said, tensors)))
    short[f"{SITE}/indices_A"] = short[f"{SITE}/indices_A"] + 6
    with pytest.raises(Misfit, match="outside of the bank"):
        block(VBLORA, only, short)


@pytest.mark.parametrize("wrong", [{"length": 5}, {"best": 7}])
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(Misfit, match=r"does not divide|more than the bank"):
        stored(VBLORA, {**SAID, **wrong})
