import torch

from adapters.methods.tuners.vera_vectors import VERA_VECTORS
from tests.adapters.methods.tuners.formulas import DOWN, SITE, UP, at, block, close, delta, stored, weight

SAID = {"rank": 3, "stored": True, "seed": 9}


def wanted(held, shared, site):
    out, wide = weight(site).shape
    return torch.diag(held["lambda_b"]) @ shared["B"][:out] @ torch.diag(held["lambda_d"]) @ shared["A"][:, :wide]


def test_sites_of_several_widths_share_their_random_matrices():
    tensors = stored(VERA_VECTORS, SAID, SITE, UP, DOWN)
    shared = at(tensors, "model/vera_vectors")
    for site in (SITE, UP, DOWN):
        assert close(delta(block(VERA_VECTORS, SAID, tensors, site)), wanted(at(tensors, site), shared, site))


def test_matrices_that_are_not_stored_are_drawn_by_the_seed():
    said = {**SAID, "stored": False}
    tensors = stored(VERA_VECTORS, said, SITE, UP)
    assert not at(tensors, "model/vera_vectors")
    (wide, out), generator = (weight(SITE).shape[1], weight(UP).shape[0]), torch.Generator().manual_seed(9)
    shared = {name: torch.empty(shape) for name, shape in (("A", (3, wide)), ("B", (out, 3)))}
    for own in shared.values():
        torch.nn.init.kaiming_uniform_(own, generator=generator)
    for site in (SITE, UP):
        assert close(delta(block(VERA_VECTORS, said, tensors, site)), wanted(at(tensors, site), shared, site))
