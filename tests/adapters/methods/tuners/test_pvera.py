import torch

from adapters.methods.tuners.pvera import PVERA
from adapters.methods.tuners.vera_vectors import drawn_matrices
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight

SAID = {"rank": 3, "stored": True, "seed": 5}


def wanted(held, shared, site):
    out, wide = weight(site).shape
    mean = torch.diag(held["lambda_d"][:3]) @ shared["A"][:3, :wide]
    return torch.diag(held["lambda_b"]) @ shared["B"][:out] @ mean


def test_the_mean_of_what_training_samples_is_taken():
    tensors = stored(PVERA, SAID, SITE, UP)
    shared = at(tensors, "model/pvera")
    assert shared["A"].shape == (6, weight(SITE).shape[1])
    for site in (SITE, UP):
        assert close(delta(block(PVERA, SAID, tensors, site)), wanted(at(tensors, site), shared, site))


def test_matrices_that_are_not_stored_are_drawn_by_the_seed():
    said = {**SAID, "stored": False}
    tensors = stored(PVERA, said, UP)
    assert not at(tensors, "model/pvera")
    out, wide = weight(UP).shape
    shared = drawn_matrices(5, {"A": (6, wide), "B": (out, 3)})
    assert close(delta(block(PVERA, said, tensors, UP)), wanted(at(tensors, UP), shared, UP))
