"""Compiles every kernel for an H200 without having one, and prints what each asks of it, as JSON lines.

A kernel is called as ever, but by a driver that only says which device it would be, and is compiled instead of launched.
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from adapters.kernels.cpu import Bottlenecks, Form, Norm
from adapters.kernels.triton.add_norm import add_norm
from adapters.kernels.triton.attention import attention
from adapters.kernels.triton.bottleneck import bottleneck
from adapters.kernels.triton.low_rank import low_rank
from adapters.kernels.triton.segmented import linear

DUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Absent:
    """A driver of a device that is not there."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compiled(call: Callable[[], object]) -> object:
    """The kernel that a call would launch."""
    found: list[object] = []
    launch = JITFunction.run

    def compile_only(self: object, *args: object, **kwargs: object) -> None:
        found.append(launch(self, *args, **{**kwargs, "warmup": True}))

    JITFunction.run = compile_only
    try:
        call()
    finally:
        JITFunction.run = launch
    (kernel,) = found
    return kernel


def usage(kernel: object) -> dict[str, int]:
    """Registers, bytes of stack (spilled registers) and of shared memory, and products that the tensor cores make."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        done = subprocess.run([DUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    counted = dict(re.findall(r"\b(REG|STACK):(\d+)", done.stdout))
    ptx = kernel.asm["ptx"]
    return {
        "registers": int(counted["REG"]),
        "stack": int(counted["STACK"]),
        "shared": kernel.metadata.shared,
        "products": sum(ptx.count(name) for name in ("mma.sync", "wgmma.mma_async")),
        "wide_loads": sum(ptx.count(name) for name in (".v4.b32", "cp.async.cg.shared.global")),
    }


def calls(dtype: torch.dtype, hidden: int, width: int, tokens: int) -> dict[str, Callable[[], object]]:
    """Every kernel on a batch of some segments, by name."""
    bounds, arena = torch.zeros(tokens // 64, 2, dtype=torch.int32), torch.zeros(4096, dtype=dtype)
    x, y, at = torch.zeros(tokens, hidden, dtype=dtype), torch.zeros(tokens, hidden, dtype=dtype), bounds[:, 0].long()
    q, starts = x.view(tokens, -1, min(64, hidden)), torch.zeros(len(bounds) + 1, dtype=torch.int32)
    prefix = torch.zeros(2, 8, hidden, dtype=dtype)
    norm = Norm(torch.zeros(hidden), torch.zeros(hidden), 1e-12)
    adapters = Bottlenecks(width, at, at, at, at)
    houlsby, pfeiffer = Form("f", "f", True, "swish"), Form("normed", "f", True, "relu")
    return {
        "attention": lambda: attention(q, q, q, starts, 0.125),
        "attention with prefixes": lambda: attention(q, q, q, starts, 0.125, prefixes={0: prefix}),
        "attention with a window": lambda: attention(q, q, q, starts, 0.125, window=64),
        "add_norm": lambda: add_norm(x, y, norm),
        "linear": lambda: linear(x, y, bounds, arena, at, at),
        "low_rank": lambda: low_rank(x, y, bounds, arena, at, at, width),
        "bottleneck of swish": lambda: bottleneck(x, y, x, bounds, arena, adapters, houlsby, norm),
        "bottleneck of relu": lambda: bottleneck(x, y, x, bounds, arena, adapters, pfeiffer, norm),
    }


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    args.add_argument("--hidden", type=int, default=768)
    args.add_argument("--width", type=int, default=48)
    args.add_argument("--tokens", type=int, default=2048)
    given = args.parse_args()
    driver.set_active(Absent())
    for name, call in calls(getattr(torch, given.dtype), given.hidden, given.width, given.tokens).items():
        print(json.dumps({"kernel": name, **usage(compiled(call))}), flush=True)  # noqa: T201 - it is read by a test


if __name__ == "__main__":
    main()
