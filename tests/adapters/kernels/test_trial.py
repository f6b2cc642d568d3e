import pytest
import torch

from adapters.kernels.cpu import CpuKernels
from adapters.kernels.trial import wrong_storage
from tests.adapters.kernels.native import BOTH

KERNELS = ("attention", "activate", "add_norm", "linear", "low_rank", "bottleneck")
WRITTEN = {
    "activate": 0,
    "linear": 1,
    "low_rank": 1,
    "bottleneck": 2,
}  # which argument a kernel writes into, where it returns nothing


def spoilt(kernels, name, spoil):
    """The same kernels, but what one of them answers goes through `spoil` in place."""

    class Spoilt(CpuKernels):
        def __init__(self):
            self.dtypes = kernels.dtypes

        def __getattribute__(self, asked):
            found = getattr(kernels, asked)
            if asked != name:
                return found

            def call(*given, **named):
                answer = found(*given, **named)
                spoil(given[WRITTEN[name]] if answer is None else answer)
                return answer

            return call

    return Spoilt()


def scale_one(answer):
    answer[-1, -1] += 0.2 * answer.abs().max()


def lose_one(answer):
    answer[0, 0] = float("nan")


@BOTH
def test_kernels_that_agree_with_torch_pass(kernels, dtype):
    assert wrong_storage(kernels, dtype) is None


@BOTH
@pytest.mark.parametrize("spoil", [scale_one, lose_one])
@pytest.mark.parametrize("name", KERNELS)
def test_one_wrong_element_of_any_kernel_is_found(kernels, dtype, name, spoil):
    assert f"{name} is" in wrong_storage(spoilt(kernels, name, spoil), dtype)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_fails_is_told_with_its_reason(kernels, name, error):
    def fail(_):
        raise error("no such instruction")

    assert wrong_storage(spoilt(kernels, name, fail), torch.float32) == f"{name} fails: no such instruction"
