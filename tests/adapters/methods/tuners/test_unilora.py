import numpy as np
import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.unilora import LONGEST, UNILORA
from tests.adapters.methods.operands import stored
from tests.adapters.methods.tuners.formulas import FITTING, SITE, UP, at, close, config, delta, weight

SAID = {"rank": 2, "length": 30, "seed": 5, "stored": False}


def held(**changes):
    """UP comes first in the model's order."""
    return {"sites": {SITE: {**SAID, **changes, "place": 1}, UP: {**SAID, **changes, "place": 0}}}


def folded(said, tensors):
    return {str(a): delta(made) for a, made in UNILORA.fold(said, tensors, FITTING).items()}


def test_every_entry_is_one_of_the_vector_less_how_often_it_occurs():
    tensors = stored(UNILORA, held(), 1)
    assert tensors.keys() == {"model/unilora/theta"}
    theta = tensors["model/unilora/theta"]
    total = sum(2 * sum(weight(site).shape) for site in (SITE, UP))
    drawn = np.random.default_rng(5)
    places = np.concatenate([np.repeat(np.arange(30), total // 30), drawn.choice(30, size=total % 30, replace=False)])
    drawn.shuffle(places)
    occurs = np.bincount(places, minlength=30)
    assert occurs.max() - occurs.min() <= 1
    numbers, deltas = iter(places.tolist()), folded(held(), tensors)
    for site in (UP, SITE):
        out, wide = weight(site).shape
        matrices = [
            torch.tensor([theta[i] / occurs[i] ** 0.5 for i in (next(numbers) for _ in range(2 * size))])
            for size in (wide, out)
        ]
        assert close(deltas[site], matrices[1].view(out, 2) @ matrices[0].view(2, wide))


def test_places_and_scales_that_are_stored_count():
    said = held(stored=True)
    tensors = stored(UNILORA, said, 1)
    for name, tensor in tensors.items():
        if "indices" in name:
            tensors[name] = torch.randint(0, 30, tensor.shape).float()
    theta = tensors["model/unilora/theta"]
    for site, change in folded(said, tensors).items():
        own = at(tensors, site)
        down, up = (theta[own[f"indices_{name}"].long()] * own[f"scales_{name}"] for name in "AB")
        assert close(change, up @ down)
    tensors[f"{UP}/indices_B"][0, 0] = 30
    with pytest.raises(Misfit, match="a place of indices_B lies outside of theta"):
        folded(said, tensors)


def test_every_map_has_a_place_of_its_own():
    said = {"sites": {site: {**SAID, "place": 0} for site in (SITE, UP)}}
    with pytest.raises(Misfit, match="two maps have one place"):
        UNILORA.fold(said, stored(UNILORA, said, 1), FITTING)


def test_a_vector_longer_than_all_matrices_together_is_not_used_up():
    said = held(length=5000)
    tensors = stored(UNILORA, said, 1)
    assert all(change.isfinite().all() for change in folded(said, tensors).values())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"length": LONGEST + 1}, "length must be an integer from 1 to"),
        ({"length": 0}, "length must be an integer from 1 to"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_settings_that_say_nothing_sensible_are_refused(changes, reason):
    with pytest.raises(Misfit, match=reason):
        UNILORA.shapes(config({**SAID, "place": 0, **changes}), FITTING)
