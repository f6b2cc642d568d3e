"""Which kernels a device gets: those compiled for this machine's processor, those of CUDA, or none."""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch

from adapters.kernels.compiled import load
from adapters.kernels.interface import Kernels


@dataclass(frozen=True, eq=False)
class Chosen:
    """The kernels of a device and where they come from; or none, where torch's operations have to do, and why."""

    kernels: Kernels | None
    said: str


def kernels_of(device: torch.device) -> Chosen:
    """The kernels of a device; those of the processor are compiled at the first call, if they were not yet."""
    match device.type:
        case "cpu":
            return _of_the_processor()
        case "cuda" if find_spec("triton") is None:
            return Chosen(None, "triton is not installed: pip install 'chorus[gpu]'")
        case "cuda":
            from adapters.kernels.triton.cuda import CudaKernels  # noqa: PLC0415 - triton is not on every machine

            return Chosen(CudaKernels(), "triton")
        case other:
            return Chosen(None, f"there are none for {other}")


@cache
def _of_the_processor() -> Chosen:
    loaded = load()
    return Chosen(loaded.kernels, loaded.reason or str(loaded.path))
