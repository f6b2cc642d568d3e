import torch

from adapters.architectures.sites import Address
from adapters.methods.tuners.tinylora import TINYLORA
from tests.adapters.methods.operands import stored
from tests.adapters.methods.tuners.formulas import FITTING, SITE, UP, at, close, delta

SAID = {"rank": 2, "turns": 3, "group": 0, "stored": True, "seed": 9}


def both(**changes):
    """Two maps of the same group, or of groups of their own."""
    held = {"sites": {SITE: {**SAID, **changes}, UP: {**SAID, **changes, "seed": 10}}}
    tensors = stored(TINYLORA, held, 1)
    return tensors, {str(address): delta(block) for address, block in TINYLORA.fold(held, tensors, FITTING).items()}


def wanted(held, own, turns):
    mixed = sum(number * turn for number, turn in zip(own, turns, strict=True))
    return held["B"] @ mixed @ held["A"]


def test_maps_of_a_group_share_the_vector_that_mixes_their_turns():
    tensors, deltas = both()
    own = tensors["model/tinylora/v.0"]
    assert [name for name in tensors if name.startswith("model/")] == ["model/tinylora/v.0"]
    for site in (SITE, UP):
        assert close(deltas[site], wanted(at(tensors, site), own, at(tensors, site)["P"]))


def test_turns_that_are_not_stored_are_drawn_by_the_seed_of_the_map():
    tensors, deltas = both(stored=False)
    for site, seed in ((SITE, 9), (UP, 10)):
        turns = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(seed)) / 2**0.5
        assert "P" not in at(tensors, site)
        assert close(deltas[site], wanted(at(tensors, site), tensors["model/tinylora/v.0"], turns))


def test_every_group_has_its_own_vector():
    held = {"sites": {SITE: SAID, UP: {**SAID, "group": 1}}}
    tensors = stored(TINYLORA, held, 1)
    made = TINYLORA.fold(held, tensors, FITTING)[Address.parse(UP)]
    assert close(delta(made), wanted(at(tensors, UP), tensors["model/tinylora/v.1"], at(tensors, UP)["P"]))
