import pytest
import torch

from adapters.methods.tuners.deft import DEFT
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight


@pytest.mark.parametrize("site", [SITE, UP])
@pytest.mark.parametrize("removes_only", [False, True])
@pytest.mark.parametrize("projection", ["relu", "qr"])
def test_a_subspace_of_the_outputs_is_taken_out_and_another_put_in(site, projection, removes_only):
    said = {"rank": 3, "scaling": 0.5, "projection": projection, "removes_only": removes_only}
    tensors = stored(DEFT, said, site)
    held, frozen = at(tensors, site), weight(site)
    left = held["P"] if projection == "relu" else torch.linalg.qr(held["P"])[0]
    taken = left @ (held["P"].clamp(min=0) if projection == "relu" else left).T
    if projection == "qr":
        assert close(taken @ taken, taken)
    want = (torch.eye(len(taken)) - taken) @ frozen
    want = want if removes_only else want + 0.5 * left @ held["R"]
    assert close(frozen + delta(block(DEFT, said, tensors, site)), want)
    assert ("R" in held) is not removes_only
