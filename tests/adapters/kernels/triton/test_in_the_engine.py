from collections import Counter

import pytest
import torch

from adapters.kernels.triton.cuda import CudaKernels
from loadtests.micro import mixed
from tests.adapters.kernels.triton.cases import TOLERANCE
from tests.loadtests.conftest import TINY

OPERATIONS = {"attention", "add_norm", "linear", "low_rank", "bottleneck"}
MORE = {torch.float32: set(), torch.bfloat16: {"activate"}}  # float32 has torch's own activations


class Counted:
    """The kernels, and how often each was called."""

    def __init__(self):
        self.calls = Counter()
        self.dtypes = CudaKernels.dtypes

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls[name] += 1
            return getattr(CudaKernels(), name)(*arguments, **named)

        return call


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_all_methods_get_the_answers_that_torch_alone_gives(dtype):
    bench = mixed.build(TINY, rows=len(mixed.METHODS), methods=list(mixed.METHODS), seed=0, dtype=dtype)
    bench.backbone.kernels = counted = Counted()
    run = bench.contenders()
    for kernels, torch_only in ((mixed.MIXED, mixed.TORCH_MIXED), (mixed.BARE, mixed.TORCH_BARE)):
        for found, due in zip(run[kernels](), run[torch_only](), strict=True):
            assert float((found - due).abs().max()) <= TOLERANCE[dtype] * max(1.0, float(due.abs().max()))
    assert counted.calls.keys() == OPERATIONS | MORE[dtype]
