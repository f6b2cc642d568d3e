import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.osf import OSF
from tests.adapters.methods.tuners.formulas import DOWN, SITE, UP, at, block, close, delta, stored, weight


@pytest.mark.parametrize("site", [SITE, UP, DOWN])
@pytest.mark.parametrize("rank", [2, 0])
def test_the_leading_directions_stay_and_the_others_are_replaced(site, rank):
    tensors = stored(OSF, {"rank": rank}, site)
    held, frozen = at(tensors, site), weight(site)
    left, values, right = torch.linalg.svd(frozen, full_matrices=False)
    kept = len(values) - rank
    want = left[:, :kept] @ torch.diag(values[:kept]) @ right[:kept]
    if rank:
        want = want + held["U"] @ torch.diag(held["S"]) @ held["V"]
    assert close(frozen + delta(block(OSF, {"rank": rank}, tensors, site)), want)


def test_more_directions_than_the_map_has_are_refused():
    with pytest.raises(Misfit, match="directions are more than a matrix"):
        stored(OSF, {"rank": min(weight(UP).shape) + 1}, UP)
