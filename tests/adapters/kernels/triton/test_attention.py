from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from adapters.kernels.triton.attention import WIDEST, attention, queries_of
from tests.adapters.kernels.triton.cases import DEVICE, assert_close


class Case:
    """Rows of some lengths, with q, k, v as thirds of one tensor, and what attention is by the plain formula."""

    def __init__(
        self, lengths: Sequence[int], heads: int, width: int, dtype: torch.dtype, *, after: int = 0, shared: int = 0
    ) -> None:
        rng = torch.Generator().manual_seed(len(lengths) + width)
        self.dtype, self.heads, self.width = dtype, heads, width
        self.starts = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device=DEVICE)
        self._rng = rng
        fused = torch.randn(sum(lengths) + after, 3, heads, width, generator=rng).to(dtype).to(DEVICE)
        self.q, self.k, self.v = fused.unbind(1)
        self.shared = shared or heads
        self.k, self.v = self.k[:, : self.shared], self.v[:, : self.shared]

    def prefix(self, more: int) -> Tensor:
        return torch.randn(2, more, self.shared * self.width, generator=self._rng).to(self.dtype).to(DEVICE)

    def due(
        self, window: int | None = None, prefixes: dict[int, Tensor] | None = None, *, causal: bool = False
    ) -> Tensor:
        return torch.cat(
            [self._row(i, *at, window, prefixes or {}, causal) for i, at in enumerate(pairwise(self.starts.tolist()))]
        )

    def _row(
        self, row: int, start: int, end: int, window: int | None, prefixes: dict[int, Tensor], causal: bool
    ) -> Tensor:
        q, k, v = (t[start:end].double().cpu() for t in (self.q, self.k, self.v))
        place = torch.arange(end - start)
        seen = (place[:, None] - place).abs() < (window or end - start + 1)
        if causal:
            seen &= place[:, None] >= place
        if row in prefixes:
            before = prefixes[row].double().cpu().view(2, -1, self.shared, self.width)
            k, v = torch.cat([before[0], k]), torch.cat([before[1], v])
            seen = functional.pad(seen, (before.shape[1], 0), value=True)
        k, v = (t.repeat_interleave(self.heads // self.shared, dim=1) for t in (k, v))
        scores = torch.einsum("ihw,jhw->hij", q, k) * 0.3
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        return torch.einsum("hij,jhw->ihw", weights, v).flatten(1)

    def run(self, **more: object) -> Tensor:
        return attention(self.q, self.k, self.v, self.starts, 0.3, **more)


@pytest.mark.parametrize(("heads", "width"), [(1, 1), (2, 3), (3, 24), (2, 64), (1, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_row_attends_to_itself(heads, width, dtype):
    case = Case([5, 1, 70, 16], heads, width, dtype)
    assert_close(case.run(), case.due(), dtype)


@pytest.mark.parametrize("lengths", [[1], [130], [64, 64], [3] * 20, [0, 4, 0]])
def test_rows_of_any_lengths(lengths):
    case = Case(lengths, 2, 16, torch.float32)
    assert_close(case.run(), case.due(), torch.float32)


@pytest.mark.parametrize("window", [1, 2, 7, 33, 500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_window_hides_what_is_further_away(window, dtype):
    case = Case([90, 1, 40], 2, 16, dtype)
    assert_close(case.run(window=window), case.due(window), dtype)


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prefix_is_seen_by_all_tokens_of_its_row_alone(window, dtype):
    case = Case([30, 9, 50], 2, 24, dtype)
    prefixes = {0: case.prefix(3), 2: case.prefix(70)}
    assert_close(case.run(window=window, prefixes=prefixes), case.due(window, prefixes), dtype)


@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize("shared", [4, 2, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_causal_rows_see_what_is_before_them_and_share_keys_and_values(window, shared, dtype):
    case = Case([30, 1, 90], 4, 16, dtype, shared=shared)
    for prefixes in ({}, {0: case.prefix(3), 2: case.prefix(70)}):
        got = case.run(window=window, prefixes=prefixes, causal=True)
        assert_close(got, case.due(window, prefixes, causal=True), dtype)


def test_scores_that_would_overflow_an_exponential_do_not():
    case = Case([20], 2, 16, torch.float32)
    case.q, case.k = case.q * 100, case.k * 100
    assert_close(case.run(), case.due(), torch.float32)


def test_a_nan_stays_in_its_row():
    case = Case([20, 30, 10], 2, 16, torch.float32)
    case.k[25, 0, 3] = torch.nan
    spoilt = torch.isnan(case.run()).any(1).nonzero().flatten().tolist()
    assert spoilt == list(range(20, 50))


def test_tokens_behind_the_last_row_are_left_out():
    case = Case([20, 30], 2, 16, torch.float32, after=14)
    found = case.run()
    assert found.shape == (64, 32)
    assert_close(found[:50], case.due(), torch.float32)


def test_no_rows_are_no_launch():
    assert Case([], 2, 16, torch.float32).run().shape == (0, 32)


def test_a_program_takes_as_many_queries_as_a_row_has():
    assert queries_of(64 * 128, 64, torch.bfloat16, 64) == 64
    assert queries_of(64 * 32, 64, torch.bfloat16, 64) == 32
    assert queries_of(64 * 5, 64, torch.bfloat16, 64) == 16
    assert queries_of(64 * 128, 64, torch.bfloat16, 256) == 16
    assert queries_of(64 * 128, 64, torch.float32, 64) == 16


def test_what_does_not_fit_is_refused():
    case = Case([4, 4], 2, 8, torch.float32)
    q, k, starts = case.q, case.k, case.starts
    with pytest.raises(ValueError, match=r"v must be \[tokens, heads, width\]"):
        attention(q, k, case.v[:3], starts, 1.0)
    with pytest.raises(ValueError, match=r"k is torch\.bfloat16"):
        attention(q, k.bfloat16(), case.v, starts, 1.0)
    with pytest.raises(ValueError, match=r"starts must be int32"):
        attention(q, k, case.v, starts.long(), 1.0)
    with pytest.raises(ValueError, match="window must be 1 at least"):
        case.run(window=0)
    with pytest.raises(ValueError, match="names row 2, but there are 2"):
        case.run(prefixes={2: case.prefix(3)})
    with pytest.raises(ValueError, match="prefix of row 1 must be tight"):
        case.run(prefixes={1: case.prefix(3)[:, :, :15]})
    with pytest.raises(ValueError, match=r"prefix of row 1 must be torch\.float32"):
        case.run(prefixes={1: case.prefix(3).bfloat16()})
    wide = torch.zeros(8, 1, WIDEST + 1, device=DEVICE)
    with pytest.raises(ValueError, match="wider than 256"):
        attention(wide, wide, wide, starts, 1.0)
    with pytest.raises(ValueError, match=r"not torch\.float16"):
        attention(q.half(), k.half(), case.v.half(), starts, 1.0)
