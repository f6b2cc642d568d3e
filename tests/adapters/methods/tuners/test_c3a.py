import pytest
import torch

from adapters.errors import Misfit
from adapters.methods.tuners.c3a import C3A
from tests.adapters.methods.tuners.formulas import SITE, UP, at, block, close, delta, stored, weight


@pytest.mark.parametrize("site", [SITE, UP])
def test_every_block_is_a_circulant(site):
    tensors = stored(C3A, {"block": 4}, site)
    kernel = at(tensors, site)["kernel"]
    out, wide = weight(site).shape
    want = torch.tensor(
        [[float(kernel[i // 4, j // 4, (j % 4 - i % 4) % 4]) / wide for j in range(wide)] for i in range(out)]
    )
    assert close(delta(block(C3A, {"block": 4}, tensors, site)), want)


def test_it_is_the_library_s_convolution():
    tensors = stored(C3A, {"block": 4})
    kernel, x = at(tensors, SITE)["kernel"], torch.randn(5, weight(SITE).shape[1])
    shards = torch.fft.ifft(x.view(5, -1, 4))
    y = torch.fft.fft(torch.einsum("tnb,mnb->tmb", shards, torch.fft.fft(kernel))).real.flatten(1) / x.shape[1]
    assert close(x @ delta(block(C3A, {"block": 4}, tensors)).T, y)


def test_a_block_that_does_not_divide_a_width_is_refused():
    with pytest.raises(Misfit, match=r"c3a: sites.1/attn_v: the block 7 does not divide"):
        stored(C3A, {"block": 7})
