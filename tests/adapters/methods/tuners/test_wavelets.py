import pytest
import torch

from adapters.methods.tuners.wavelets import LOW_PASS, synthesis


@pytest.mark.parametrize("name", sorted(set(LOW_PASS) - {"coif4"}))
def test_filters_are_orthogonal_to_their_own_shifts_by_two(name):
    taps = torch.tensor(LOW_PASS[name], dtype=torch.float64)
    assert taps.sum() == pytest.approx(2**0.5, abs=1e-9)
    for shift in range(0, len(taps), 2):
        product = (taps[: len(taps) - shift] * taps[shift:]).sum()
        assert product == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-8)


@pytest.mark.parametrize("name", sorted(LOW_PASS))
def test_one_step_is_a_transposed_convolution_of_the_bands(name):
    bands = torch.randn(40, 44, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low = torch.tensor(LOW_PASS[name], dtype=torch.float64)
    high = torch.stack([(-1) ** i * low[len(low) - 1 - i] for i in range(len(low))])
    quarters = [bands[:20, :22], bands[:20, 22:], bands[20:, :22], bands[20:, 22:]]
    filters = [torch.outer(low, low), torch.outer(high, low), torch.outer(low, high), torch.outer(high, high)]
    whole = torch.nn.functional.conv_transpose2d(torch.stack(quarters)[None], torch.stack(filters)[:, None], stride=2)
    cut = len(low) - 2
    want = whole[0, 0, cut : whole.shape[2] - cut, cut : whole.shape[3] - cut]
    assert torch.allclose(synthesis(bands, name), want)
