import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.waveft import WAVEFT
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight

SAID = {"count": 7, "scaling": 3.0, "seed": 5, "synthesis": False, "wavelet": "db1"}


def entries(tensors, site):
    out, wide = weight(site).shape
    drawn = torch.randperm(out * wide, generator=torch.Generator().manual_seed(5))[:7]
    flat = torch.zeros(out * wide)
    flat[drawn] = at(tensors, site)["spectrum"]
    return flat.view(out, wide)


def test_without_synthesis_the_entries_are_the_change():
    tensors = stored(WAVEFT, SAID)
    assert close(delta(block(WAVEFT, SAID, tensors)), entries(tensors, SITE) * 3)


def test_haar_makes_squares_of_four_out_of_the_quarters():
    said = {**SAID, "synthesis": True}
    tensors = stored(WAVEFT, said, UP)
    bands = entries(tensors, UP)
    tall, broad = bands.shape[0] // 2, bands.shape[1] // 2
    want = torch.zeros_like(bands)
    for i in range(bands.shape[0]):
        for j in range(bands.shape[1]):
            down, along = (-1) ** (i % 2), (-1) ** (j % 2)
            mean, right = bands[i // 2, j // 2], bands[i // 2, j // 2 + broad]
            below, both = bands[i // 2 + tall, j // 2], bands[i // 2 + tall, j // 2 + broad]
            want[i, j] = (mean + down * right + along * below + down * along * both) / 2
    assert close(delta(block(WAVEFT, said, tensors, UP)), want * 3)


@pytest.mark.parametrize("wavelet", ["db2", "sym5", "coif3"])
def test_every_wavelet_gives_a_matrix_of_the_map_s_size(wavelet):
    said = {**SAID, "synthesis": True, "wavelet": wavelet}
    made = delta(block(WAVEFT, said, stored(WAVEFT, said, UP), UP))
    assert made.shape == weight(UP).shape
    assert made.abs().sum() > 0


def test_unknown_wavelets_are_refused():
    with pytest.raises(Misfit, match="wavelet must be one of"):
        stored(WAVEFT, {**SAID, "wavelet": "coif5"})
