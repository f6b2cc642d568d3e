import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.psoft import PSOFT
from adapters.methods.tuners.spectrum import leading
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight

SAID = {"rank": 4, "iterations": 2, "seed": 3, "eps": 0.0, "terms": 0, "orthogonal": True}


def principal(site, said):
    if said.get("sampled"):
        return leading(weight(site), 4, 2, 3)
    left, values, right = torch.linalg.svd(weight(site), full_matrices=False)
    return left[:, :4], values[:4], right[:4]


def skew(held):
    upper = torch.zeros(4, 4)
    numbers = iter(held["weight"])
    for i in range(4):
        for j in range(i + 1, 4):
            upper[i, j] = next(numbers)
    return upper - upper.T


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_principal_subspace_is_turned_and_the_rest_is_as_it_was(site, sampled):
    said = {**SAID, "sampled": sampled}
    tensors = stored(PSOFT, said, site)
    own = skew(at(tensors, site))
    turn = (torch.eye(4) + own) @ torch.inverse(torch.eye(4) - own)
    left, values, right = principal(site, said)
    want = left @ torch.diag(values) @ (turn - torch.eye(4)) @ right
    assert close(delta(block(PSOFT, said, tensors, site)), want)


def test_singular_values_may_stand_on_both_sides_of_the_turn_and_scales_around_it():
    said = {**SAID, "start": "pissa_init", "orthogonal": False, "scales_a": True, "scales_b": True}
    tensors = stored(PSOFT, said)
    held, (left, values, right) = at(tensors, SITE), principal(SITE, said)
    turn = torch.diag(held["vector_b"]) @ held["weight"] @ torch.diag(held["vector_a"])
    root = torch.diag(values.sqrt())
    assert close(delta(block(PSOFT, said, tensors)), left @ root @ (turn - torch.eye(4)) @ root @ right)


@pytest.mark.parametrize("eps", [0.0, 0.01])
def test_a_series_stands_for_the_inverse_and_a_bound_for_long_ones(eps):
    said = {**SAID, "terms": 4, "eps": eps}
    tensors = stored(PSOFT, said)
    own, (left, values, right) = skew(at(tensors, SITE)), principal(SITE, said)
    assert own.norm() > 0.01
    own = own * (eps / own.norm()) if eps else own
    turned = 2 * own + 2 * own @ own + own @ own @ own
    assert close(delta(block(PSOFT, said, tensors)), left @ torch.diag(values) @ turned @ right)


def test_a_rank_beyond_the_map_s_is_refused():
    with pytest.raises(Misfit, match="the rank 1000 is more than a matrix"):
        stored(PSOFT, {**SAID, "rank": 1000})
