"""Tensors of the host on their way to a device, of which no pass waits for another."""

import torch
from torch import Tensor


def upload(host: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, in the order of its stream; itself where the device is the host.

    An accelerator's is copied through pinned memory, which torch keeps until the stream has read it: a copy from
    ordinary memory waits until all that was asked of the stream before is done.
    """
    if device.type == "cpu":
        return host
    return (host.pin_memory() if device.type == "cuda" else host).to(device, non_blocking=True)
