import math

import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.fourierft import FOURIERFT
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight

SAID = {"count": 5, "scaling": 30.0, "seed": 3}


@pytest.mark.parametrize("site", [SITE, UP])
def test_a_few_waves_at_places_that_the_seed_draws(site):
    tensors = stored(FOURIERFT, SAID, site)
    out, wide = weight(site).shape
    drawn = torch.randperm(out * wide, generator=torch.Generator().manual_seed(3))[:5]
    rows, columns = torch.arange(out)[:, None], torch.arange(wide)
    want = torch.zeros(out, wide)
    for value, place in zip(at(tensors, site)["spectrum"], drawn.tolist(), strict=True):
        phase = 2 * math.pi * (rows * (place // wide) / out + columns * (place % wide) / wide)
        want += 30.0 * value * torch.cos(phase) / (out * wide)
    assert close(delta(block(FOURIERFT, SAID, tensors, site)), want)


def test_more_entries_than_the_matrix_has_are_refused():
    with pytest.raises(Misfit, match="entries are more than a matrix"):
        stored(FOURIERFT, {**SAID, "count": 99_999})


def test_a_seed_is_an_integer_of_64_bits():
    with pytest.raises(Misfit, match="seed must be the seed of a generator"):
        stored(FOURIERFT, {**SAID, "seed": 1 << 64})
