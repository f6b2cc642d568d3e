import inspect

import pytest
import torch

from adapters.kernels.cpu import CpuKernels, Form
from adapters.kernels.triton.activations import ACTIVATIONS
from adapters.kernels.triton.bottleneck import WIDEST
from adapters.kernels.triton.cuda import CudaKernels
from adapters.methods.settings import activation
from tests.adapters.kernels.triton.cases import DEVICE, Shelf, assert_close, batch_of, rows_of
from tests.adapters.kernels.triton.test_add_norm import norm_of
from tests.adapters.kernels.triton.test_bottleneck import (
    DOUBLE,
    PARALLEL,
    PLAIN,
    POST_ADD,
    PRE_NORM,
    SEQ,
    Case,
    outputs,
)

OPERATIONS = ["attention", "add_norm", "linear", "low_rank", "bottleneck"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_arguments_are_those_of_the_kernels_for_the_cpu(name):
    assert inspect.signature(getattr(CudaKernels, name)) == inspect.signature(getattr(CpuKernels, name))


def test_every_operation_is_there_and_computes():
    kernels, batch, shelf = CudaKernels(), batch_of([5, 20]), Shelf(torch.float32)
    weights, weight = shelf.place(2, 8, 16)
    x, y = rows_of(batch.total, 16, torch.float32), rows_of(batch.total, 8, torch.float32, seed=1)
    due = y.clone()
    for (start, end), w in zip(batch.bounds, weights, strict=True):
        due[start:end] += x[start:end] @ w.to(DEVICE).T
    kernels.linear(x, y, batch.at, shelf.arena, weight, accumulate=True)
    assert_close(y, due, torch.float32)
    assert kernels.add_norm(x, None, norm_of(16)).shape == x.shape
    q, starts = x.view(-1, 2, 8), torch.tensor([0, len(x)], dtype=torch.int32, device=DEVICE)
    assert kernels.attention(q, q, q, starts, 1.0, window=3).shape == x.shape


@pytest.mark.parametrize("rank", [8, WIDEST + 4])
def test_any_rank_is_computed(rank):
    kernels, batch, shelf = CudaKernels(), batch_of([5, 20]), Shelf(torch.float32)
    downs, down = shelf.place(2, rank, 16, scale=0.25)
    ups, up = shelf.place(2, 8, rank, scale=rank**-0.5)
    biases, bias = shelf.place(2, 8)
    x, y = rows_of(batch.total, 16, torch.float32), rows_of(batch.total, 8, torch.float32, seed=1)
    due = y.double().cpu()
    for (start, end), a, b, c in zip(batch.bounds, downs, ups, biases, strict=True):
        due[start:end] += x[start:end].double().cpu() @ a.double().T @ b.double().T + c.double()
    kernels.low_rank(x, y, batch.at, shelf.arena, down, up, rank, bias)
    assert_close(y, due, torch.float32)


@pytest.mark.parametrize(
    "form", [SEQ, DOUBLE, PARALLEL, PRE_NORM, POST_ADD, PLAIN], ids=lambda form: form.reads + form.adds
)
@pytest.mark.parametrize("width", [8, WIDEST + 4])
@pytest.mark.parametrize("normed", [True, False])
def test_any_width_is_computed(form, width, normed):
    case = Case(24, width, torch.float32, [5, 17], norm_of(24) if normed else None)
    y = outputs(case)
    before, due = y.clone(), case.due(form, case.r, y)
    CudaKernels().bottleneck(case.f, case.r, y, case.batch.at, case.arena, case.adapters, form, case.norm)
    assert_close(y, due, torch.float32)
    assert torch.equal(y[case.batch.outside()], before[case.batch.outside()])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_wide_ones_have_every_activation(name):
    case = Case(8, WIDEST + 4, torch.float32, [5], norm_of(8))
    y = outputs(case)
    form = Form("f", "f", False, "gelu" if name == "gelu_python" else name)
    due = case.due(form, case.r, y)
    CudaKernels().bottleneck(case.f, case.r, y, case.batch.at, case.arena, case.adapters, form, case.norm)
    assert_close(y, due, torch.float32)


def test_what_no_kernel_has_is_refused_at_any_width():
    for width in (8, WIDEST + 4):
        case = Case(24, width, torch.float32, [5], norm_of(24))
        for form, reason in ((Form("f", "f", False, "mish"), "with mish"), (Form("r", "f", False, "relu"), "needs r")):
            with pytest.raises(ValueError, match=reason):
                CudaKernels().bottleneck(
                    case.f, None, outputs(case), case.batch.at, case.arena, case.adapters, form, None
                )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_written_in_its_place(name):
    x = torch.randn(5, 24, generator=torch.Generator().manual_seed(3))
    due = activation("gelu" if name == "gelu_python" else name)(x.double())
    CudaKernels().activate(x[:, :10], name)
    assert_close(x[:, :10], due[:, :10], torch.float32)
