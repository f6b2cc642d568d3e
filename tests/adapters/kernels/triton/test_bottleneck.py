from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from adapters.kernels.cpu import Bottlenecks, Form, Norm
from adapters.kernels.triton import bottleneck as module
from adapters.kernels.triton.bottleneck import WIDEST, bottleneck, fits, launch_of
from adapters.methods.settings import activation
from tests.adapters.kernels.triton.cases import DEVICE, Batch, Shelf, assert_close, batch_of, rows_of
from tests.adapters.kernels.triton.test_add_norm import norm_of

SEQ = Form("normed", "f", True, "relu")
DOUBLE = Form("f", "f", True, "swish")
PARALLEL = Form("r", "f", True, "relu", 4.0)
PRE_NORM = Form("normed", "x", False, "gelu", 0.5)
POST_ADD = Form("normed", "sum", True, "gelu_new")
PLAIN = Form("f", "none", False, "tanh")


class Case:
    """Random bottlenecks of some segments, and what they compute by the plain formula."""

    def __init__(self, hidden: int, width: int, dtype: torch.dtype, lengths: list[int], norm: Norm | None) -> None:
        self.batch, self.norm, self.dtype = batch_of(lengths), norm, dtype
        shelf, count = Shelf(dtype), len(lengths)
        self._down, down = shelf.place(count, width, hidden, scale=hidden**-0.5)
        self._down_bias, down_bias = shelf.place(count, width)
        self._up, up = shelf.place(count, hidden, width, scale=width**-0.5)
        self._up_bias, up_bias = shelf.place(count, hidden)
        self.adapters = Bottlenecks(width, down, down_bias, up, up_bias)
        self.arena = shelf.arena
        self.f = rows_of(self.batch.total, hidden, dtype)
        self.r = rows_of(self.batch.total, hidden, dtype, seed=1)

    def due(self, form: Form, r: Tensor | None, y: Tensor) -> Tensor:
        out = y.double().cpu().clone()
        for i, (start, end) in enumerate(self.batch.bounds):
            f = self.f[start:end].double().cpu()
            out[start:end] = self._one(i, form, f, torch.zeros_like(f) if r is None else r[start:end].double().cpu())
        return out

    def _one(self, i: int, form: Form, f: Tensor, r: Tensor) -> Tensor:
        x = {"normed": self._normed(f + r), "f": f, "r": r}[form.reads]
        z = activation(form.activation)(functional.linear(x, self._down[i].double(), self._down_bias[i].double()))
        u = form.scaling * functional.linear(z, self._up[i].double(), self._up_bias[i].double())
        out = u + {"none": torch.zeros_like(f), "f": f, "x": x, "sum": f + r}[form.adds]
        return self._normed(out + r) if form.closes else out

    def _normed(self, x: Tensor) -> Tensor:
        if self.norm is None:
            return x
        weight, bias = (None if held is None else held.double().cpu() for held in (self.norm.weight, self.norm.bias))
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self.norm.eps)

    def run(self, form: Form, r: Tensor | None, y: Tensor) -> None:
        bottleneck(self.f, r, y, self.batch.at, self.arena, self.adapters, form, self.norm)


def outputs(case: Case) -> Tensor:
    return rows_of(case.batch.total, case.f.shape[1], case.dtype, seed=2)


def agree(case: Case, form: Form, *, with_r: bool = True) -> None:
    y = outputs(case)
    before, r = y.clone(), case.r if with_r else None
    due = case.due(form, r, y)
    case.run(form, r, y)
    assert_close(y, due, case.dtype)
    assert torch.equal(y[case.batch.outside()], before[case.batch.outside()])


@pytest.mark.parametrize(
    "form", [SEQ, DOUBLE, PARALLEL, PRE_NORM, POST_ADD, PLAIN], ids=lambda form: form.reads + form.adds
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_form_is_its_formula(form, dtype):
    agree(Case(48, 24, dtype, [5, 0, 17, 1], norm_of(48)), form)


@pytest.mark.parametrize(("hidden", "width"), [(32, 1), (65, 3), (130, 48), (384, 24), (768, 48), (100, 200)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_width_computes_the_same(hidden, width, dtype):
    agree(Case(hidden, width, dtype, [3, 18], norm_of(hidden)), SEQ)


@pytest.mark.parametrize("form", [SEQ, DOUBLE, PRE_NORM], ids=lambda form: form.reads + form.adds)
def test_the_norm_or_its_weights_may_be_missing(form):
    agree(Case(40, 8, torch.float32, [5, 17], None), form)
    agree(Case(40, 8, torch.float32, [5, 17], Norm(None, None, 1e-5)), form)


@pytest.mark.parametrize("adds", ["none", "f", "x"])
def test_a_form_that_does_not_read_r_needs_none(adds):
    agree(Case(40, 8, torch.float32, [5, 17], norm_of(40)), replace(PLAIN, adds=adds), with_r=False)


@pytest.mark.parametrize("rows", [16, 32, 64])
def test_the_height_of_a_tile_changes_nothing(rows, monkeypatch):
    monkeypatch.setattr(module, "height", lambda *_: rows)
    agree(Case(40, 8, torch.float32, [70, 1, 64, 15], norm_of(40)), SEQ)


@pytest.mark.parametrize("target", ["f", "r"])
@pytest.mark.parametrize("form", [SEQ, PARALLEL, PRE_NORM], ids=lambda form: form.reads + form.adds)
def test_what_is_read_may_be_written_over(target, form):
    case = Case(150, 8, torch.float32, [5, 17], norm_of(150))
    y = getattr(case, target)
    due = case.due(form, case.r, y)
    case.run(form, case.r, y)
    assert_close(y, due, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_in_its_row(dtype):
    case = Case(70, 3, dtype, [20, 20], norm_of(70))
    first, second = sorted(case.batch.bounds)
    case.f[first[0] + 3, 69], case.r[second[0], 0] = torch.nan, torch.inf
    y = torch.zeros(case.batch.total, 70, dtype=dtype, device=DEVICE)
    case.run(SEQ, case.r, y)
    assert torch.isnan(y).any(1).nonzero().flatten().tolist() == [first[0] + 3, second[0]]


def test_an_infinite_value_that_saturates_leaves_finite_ones():
    case = Case(70, 3, torch.float32, [20], None)
    row = case.batch.bounds[0][0] + 3
    case.f[row, 0] = torch.inf
    agree(case, PLAIN)
    assert torch.isfinite(case.due(PLAIN, case.r, case.f)[row]).all()


def test_a_mean_far_from_zero_costs_no_digits():
    case = Case(256, 8, torch.float32, [5], norm_of(256))
    case.f += 300
    y = outputs(case)
    due = case.due(SEQ, case.r, y)
    case.run(SEQ, case.r, y)
    assert float((y.double().cpu() - due).abs().max()) < 3e-4


def test_wide_bottlenecks_get_more_warps_and_fewer_stages():
    assert launch_of(48, 16).widths == 64
    assert launch_of(1, 16).widths == 16
    assert launch_of(48, 64).warps == 4
    assert launch_of(WIDEST, 64).warps == 8
    assert launch_of(WIDEST, 16).stages < launch_of(48, 16).stages


def test_what_does_not_fit_is_refused():
    case = Case(16, 4, torch.float32, [4], norm_of(16))
    y = outputs(case)
    assert fits(WIDEST, "relu")
    assert not fits(WIDEST + 1, "relu")
    assert not fits(4, "mish")
    with pytest.raises(ValueError, match="not of width 4 with mish"):
        case.run(replace(SEQ, activation="mish"), case.r, y)
    for form in (PARALLEL, SEQ, replace(PLAIN, adds="sum"), replace(PLAIN, closes=True)):
        with pytest.raises(ValueError, match="needs r"):
            case.run(form, None, y)
    with pytest.raises(ValueError, match=r"y must be \["):
        case.run(SEQ, case.r, y[:2])
    with pytest.raises(ValueError, match=r"r is torch\.bfloat16"):
        case.run(SEQ, case.r.bfloat16(), y)


def test_segments_without_rows_write_nothing():
    case = Case(16, 4, torch.float32, [4], norm_of(16))
    case.batch = Batch(((0, 0),), case.batch.total)
    y = outputs(case)
    before = y.clone()
    case.run(SEQ, case.r, y)
    assert torch.equal(y, before)
