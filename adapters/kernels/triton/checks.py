"""What every launch checks of its tensors before a kernel, which can not, is given their addresses."""

import torch
from torch import Tensor

STORAGE = (torch.float32, torch.bfloat16)


def check_rows(like: Tensor, **rows: Tensor) -> None:
    """Every tensor is [n, width] with a tight last axis, in `like`'s type and on its device; raises `ValueError`."""
    if like.dtype not in STORAGE:
        raise ValueError(f"kernels take float32 or bfloat16, not {like.dtype}")
    for name, tensor in rows.items():
        if tensor.dim() != 2 or (tensor.shape[1] > 1 and tensor.stride(1) != 1):
            raise ValueError(f"{name} must be rows [n, width] whose last axis lies tight, not {tuple(tensor.shape)}")
        if tensor.dtype != like.dtype or tensor.device != like.device:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, but {like.dtype} on {like.device} is due")


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """A tensor has a shape; raises `ValueError`."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must be {list(shape)}, not {list(tensor.shape)}")


def check_segments(like: Tensor, bounds: Tensor, arena: Tensor, **offsets: Tensor | None) -> int:
    """The number S of segments: bounds int32 [S, 2], a flat arena of `like`'s type, int64 [S] offsets; raises `ValueError`."""
    if bounds.dtype != torch.int32 or bounds.dim() != 2 or bounds.shape[1] != 2 or not bounds.is_contiguous():
        raise ValueError(f"bounds must be int32 [segments, 2], not {bounds.dtype} {list(bounds.shape)}")
    if arena.dim() != 1 or not arena.is_contiguous() or arena.dtype != like.dtype:
        raise ValueError(f"the arena must be flat and {like.dtype}, not {arena.dtype} {list(arena.shape)}")
    segments = len(bounds)
    for name, held in offsets.items():
        if held is not None and (held.shape != (segments,) or held.dtype != torch.int64 or not held.is_contiguous()):
            raise ValueError(f"{name} must be int64 [{segments}], not {held.dtype} {list(held.shape)}")
    for name, tensor in {"bounds": bounds, "the arena": arena, **offsets}.items():
        if tensor is not None and tensor.device != like.device:
            raise ValueError(f"{name} is on {tensor.device}, but {like.device} is due")
    return segments
