import pytest
import torch

from adapters.methods.tuners.spectrum import leading


@pytest.mark.parametrize("shape", [(9, 6), (6, 9), (7, 7)])
def test_it_is_torch_s_under_the_seed_and_leaves_the_common_generator_alone(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        left, values, right = torch.svd_lowrank(matrix, q=3, niter=2)
    before = torch.get_rng_state()
    got = leading(matrix, 3, 2, 4)
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(got, (left, values, right.T), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
