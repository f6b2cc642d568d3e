import math

import pytest
import torch

from adapters.methods.tuners.randlora import RANDLORA
from tests.adapters.methods.tuners.formulas import DOWN, SITE, UP, at, block, close, delta, stored, weight

SAID = {"rank": 5, "alpha": 10, "stored": True, "seed": 3, "random": "dense"}


def wanted(held, shared, site):
    out, wide = weight(site).shape
    least, bases = min(out, wide), math.ceil(min(out, wide) / 5)
    own = [held["lambda"][r, m] * shared["A"][r, 0, :least] * held["gamma"][m] for r in range(5) for m in range(bases)]
    random = [shared["B"][: max(out, wide), m, r] for m in range(bases) for r in range(5)]
    delta = sum(torch.outer(column, row) for column, row in zip(random, own, strict=True)) * 2
    return delta if least == wide else delta.T


def test_sites_of_several_widths_share_their_random_matrices():
    tensors = stored(RANDLORA, SAID, SITE, UP, DOWN)
    shared = at(tensors, "model/randlora")
    for site in (SITE, UP, DOWN):
        assert close(delta(block(RANDLORA, SAID, tensors, site)), wanted(at(tensors, site), shared, site))


@pytest.mark.parametrize("random", ["dense", "sparse", "very_sparse"])
def test_matrices_that_are_not_stored_are_drawn_by_the_seed(random):
    said = {**SAID, "stored": False, "random": random}
    tensors = stored(RANDLORA, said, UP)
    assert set(at(tensors, UP)) == {"lambda", "gamma"}
    assert not at(tensors, "model/randlora")
    out, wide = weight(UP).shape
    generator = torch.Generator().manual_seed(3)
    if random == "dense":
        first = torch.empty(5, 1, wide, dtype=torch.bfloat16)
        torch.nn.init.kaiming_uniform_(first, a=5**0.5, generator=generator)
        second = [torch.empty(out, 1, 5, dtype=torch.bfloat16) for _ in range(math.ceil(wide / 5))]
        for own in second:
            torch.nn.init.kaiming_uniform_(own, a=5**0.5, generator=generator)
        matrices = first, torch.cat(second, dim=1)
    else:
        scarce = wide**0.5 if random == "very_sparse" else 3
        drawn = [torch.rand(shape, generator=generator) for shape in ((5, 1, wide), (out, math.ceil(wide / 5), 5))]
        matrices = tuple(1.0 * (d > 1 - 1 / (2 * scarce)) - 1.0 * (d < 1 / (2 * scarce)) for d in drawn)
    shared = {name: (own / own.std()).float() for name, own in zip("AB", matrices, strict=True)}
    assert close(delta(block(RANDLORA, said, tensors, UP)), wanted(at(tensors, UP), shared, UP))
