"""A stand-in for CUDA's capture: it refuses what no capture may do, and its results last as long as a graph's do."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What waits for the device, or brings a constant from the host.
FORBIDDEN = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.lift_fresh.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.repeat_interleave.Tensor,
    torch.ops.aten.equal.default,
}


class Capturing(TorchDispatchMode):
    """Inside of it a pass is captured."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in FORBIDDEN:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        return func(*args, **(kwargs or {}))


class Recorder:
    """Captures as CUDA does: a pass runs for its kernels, then for its memory; replays read and write the same tensors.

    What a replay does was said by the objects that the first pass was captured with. The pool is shared: after a replay
    the results of all other passes are worthless.
    """

    def __init__(self):
        self.captures, self.replays = 0, Counter()
        self._outputs = []

    def __call__(self, compute):
        compute()
        with Capturing():
            output = compute()
        number, self.captures = self.captures, self.captures + 1
        self._outputs.append(output)

        def replay():
            self.replays[number] += 1
            for other in self._outputs:
                if torch.is_tensor(other) and other.is_floating_point():
                    other.fill_(torch.nan)
            output.copy_(compute())

        return replay, output
