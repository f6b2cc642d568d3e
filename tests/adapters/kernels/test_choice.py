import pytest
import torch

from adapters.kernels import choice
from adapters.kernels.choice import kernels_of
from adapters.kernels.triton.cuda import CudaKernels


def test_the_processor_gets_what_was_compiled_for_it_once():
    first = kernels_of(torch.device("cpu"))
    assert first.kernels is not None, first.said
    assert torch.float32 in first.kernels.dtypes
    assert first.said.endswith(".so")
    assert kernels_of(torch.device("cpu")) is first


def test_cuda_gets_those_of_triton_or_is_told_how_to_get_them(monkeypatch):
    assert isinstance(kernels_of(torch.device("cuda")).kernels, CudaKernels)
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    without = kernels_of(torch.device("cuda"))
    assert without.kernels is None
    assert "chorus[gpu]" in without.said


@pytest.mark.parametrize("device", ["meta", "mps"])
def test_a_device_without_kernels_says_so(device):
    assert kernels_of(torch.device(device)).kernels is None
    assert device in kernels_of(torch.device(device)).said
