import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.supertuning import SUPERTUNING
from tests.adapters.methods.tuners.formulas import SITE, WEIGHT, at, block, close, delta, stored

SAID = {"count": 5, "stored": False, "largest": True, "rank": 0, "alpha": 0.0}


@pytest.mark.parametrize("largest", [True, False])
def test_entries_of_the_largest_or_smallest_magnitude_change_in_their_order(largest):
    said = {**SAID, "largest": largest}
    tensors = stored(SUPERTUNING, said)
    entries = sorted(range(WEIGHT.numel()), key=lambda i: abs(WEIGHT.flatten()[i].item()), reverse=largest)
    want = torch.zeros(WEIGHT.numel())
    want[entries[:5]] = at(tensors, SITE)["values"]
    assert close(delta(block(SUPERTUNING, said, tensors)), want.view(WEIGHT.shape))


def test_stored_places_are_taken_and_a_lora_stands_beside_them():
    said = {**SAID, "stored": True, "rank": 2, "alpha": 3.0}
    tensors = stored(SUPERTUNING, said) | {f"{SITE}/places": torch.tensor([3.0, 70.0, 1.0, 0.0, 7.0])}
    held = at(tensors, SITE)
    want = 1.5 * held["B"] @ held["A"]
    for place, value in zip((3, 70, 1, 0, 7), held["values"], strict=True):
        want[place // WEIGHT.shape[1], place % WEIGHT.shape[1]] += value
    assert close(delta(block(SUPERTUNING, said, tensors)), want)


@pytest.mark.parametrize("outside", [-1, WEIGHT.numel()])
def test_places_outside_of_the_map_are_refused(outside):
    said = {**SAID, "stored": True}
    with pytest.raises(Misfit, match="lies outside of the map"):
        block(SUPERTUNING, said, stored(SUPERTUNING, said) | {f"{SITE}/places": torch.full((5,), float(outside))})


def test_more_entries_than_the_map_has_are_refused():
    with pytest.raises(Misfit, match="entries are more than a matrix"):
        stored(SUPERTUNING, {**SAID, "count": WEIGHT.numel() + 1})
