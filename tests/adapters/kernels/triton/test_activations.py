import pytest
import torch
import triton
import triton.language as tl

from adapters.kernels import cpu
from adapters.kernels.triton.activations import ACTIVATIONS, activated
from adapters.methods.settings import activation
from tests.adapters.kernels.triton.cases import DEVICE


@triton.jit
def apply(x: tl.tensor, y: tl.tensor, KIND: tl.constexpr) -> None:
    place = tl.arange(0, 256)
    tl.store(y + place, activated(tl.load(x + place), KIND))


def run(x: torch.Tensor, name: str) -> torch.Tensor:
    y = torch.empty_like(x, device=DEVICE)
    apply[(1,)](x.to(DEVICE), y, KIND=ACTIVATIONS[name])
    return y.cpu()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1e-3, 0.1, 1.0, 30.0])
def test_each_is_the_function_of_transformers(name, size):
    x = torch.linspace(-size, size, 256)
    due = activation(name)(x.double()) if name != "gelu_python" else activation("gelu")(x.double())
    assert torch.allclose(run(x, name).double(), due, rtol=2e-6, atol=2e-6 * size * size)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_nan_stays_one_and_alone(name):
    x = torch.linspace(-3, 3, 256)
    x[7] = torch.nan
    assert torch.isnan(run(x, name)).nonzero().flatten().tolist() == [7]


def test_large_arguments_do_not_overflow():
    x = torch.tensor([-1e30, -200.0, 200.0, 1e30]).repeat(64)
    assert run(x, "sigmoid")[:4].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert run(x, "tanh")[:4].tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_the_names_are_those_of_the_kernels_for_the_cpu():
    assert ACTIVATIONS.keys() == cpu.ACTIVATIONS.keys()
    pairs = {(ACTIVATIONS[name], cpu.ACTIVATIONS[name]) for name in ACTIVATIONS}
    assert len(pairs) == len(set(ACTIVATIONS.values())) == len(set(cpu.ACTIVATIONS.values()))
