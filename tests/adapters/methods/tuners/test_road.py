import pytest
import torch

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.tuners.road import ROAD
from tests.adapters.methods import operands
from tests.adapters.methods.tuners.formulas import FITTING, SITE, UP, at, config, stored, weight

BIAS = FITTING.bias


def turned(held, variant, group, y):
    """Every pair of channels by hand."""
    theta, alpha, out = held["theta"], held["alpha"], torch.zeros_like(y)
    half = group // 2
    for i in range(y.shape[1]):
        block, place = divmod(i, group)
        upper = place >= half
        j = i - half if upper else i + half
        own = {"road_1": block * half + place % half, "road_2": i, "road_4": 2 * block * group + place}[variant]
        other = own + group if variant == "road_4" else own
        first, second = alpha[own] * theta[own].cos(), alpha[other] * theta[other].sin()
        out[:, i] = first * y[:, i] + (second if upper else -second) * y[:, j]
    return out


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize("variant", ["road_1", "road_2", "road_4"])
@pytest.mark.parametrize("settles", [True, False])
def test_pairs_of_outputs_are_turned_and_stretched_bias_and_all(site, variant, settles):
    said = {"variant": variant, "group": 8}
    held = [stored(ROAD, said, site, seed=seed) for seed in (1, 2, 3)]
    address = Address.parse(site)
    operand = operands.operand([ROAD.fold(config(said, site), tensors, FITTING)[address] for tensors in held])
    x = operands.tokens(weight(site).shape[1], 1)
    y = x @ weight(site).T + FITTING.bias(address)
    if settles:
        out = y.clone()
        with torch.no_grad():
            assert ROAD.settle(x, out, operand)
    else:
        out = ROAD.apply(ROAD.change(None, x, weight(site), operand), y, x, weight(site), operand)
        assert not ROAD.settle(x, y.clone(), operand)
    for got, before, segment in zip(operands.rows(out), operands.rows(y), operands.OWNER, strict=True):
        assert torch.allclose(got, turned(at(held[segment], site), variant, 8, before), atol=1e-5)


def test_starts_as_the_identity_and_chains_with_nothing():
    said = {"variant": "road_2", "group": 4}
    start = ROAD.initialise(config(said), FITTING, torch.Generator())
    operand = operands.operand([ROAD.fold(config(said), start, FITTING)[Address.parse(SITE)]] * 3)
    y = operands.tokens(weight(SITE).shape[0], 1)
    assert torch.equal(ROAD.apply(ROAD.change(None, y, y, operand), y, y, y, operand), y)
    assert not ROAD.chains(None)
    assert not ROAD.chains(None, first=True)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"variant": "road_1", "group": 3}, "does not divide the width 3"),
        ({"variant": "road_1", "group": 10}, "the group 10 does not divide"),
        ({"variant": "road_3", "group": 4}, "variant must be one of"),
    ],
)
def test_groups_that_do_not_fit_are_refused(said, reason):
    with pytest.raises(Misfit, match=reason):
        stored(ROAD, said)
