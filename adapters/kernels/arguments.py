"""What the compiled kernels are given: checks that an address and its numbers mean what a kernel takes them for."""

import ctypes
from collections.abc import Mapping
from ctypes import c_int, c_void_p
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def stride(name: str, x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """The distance of two rows of x, in elements."""
    if x.dtype is not dtype or x.shape != shape or not x.is_cpu:
        found = f"{x.dtype} {list(x.shape)} on {x.device}"
        raise ValueError(f"{name} must be {dtype} {list(shape)} on the CPU, not {found}")
    strides, tight = x.stride(), 1
    for size, apart in zip(shape[:0:-1], strides[:0:-1], strict=True):
        if apart != tight and size != 1:
            raise ValueError(f"{name} must lie tight within a row: call contiguous() first; its strides are {strides}")
        tight *= size
    return strides[0]


def entries(name: str, x: Tensor, dtype: torch.dtype) -> int:
    """How many entries a table of numbers has."""
    if x.dtype is not dtype or not x.is_cpu or not x.is_contiguous() or not x.dim():
        found = f"{x.dtype} {list(x.shape)} on {x.device}"
        raise ValueError(f"{name} must be {dtype}, contiguous, on the CPU and no scalar, not {found}")
    return x.shape[0]


def segments_of(bounds: Tensor, arena: Tensor, dtype: torch.dtype, **offsets: Tensor | None) -> int:
    """The number of segments S, with all tables checked."""
    segments = entries("bounds", bounds, torch.int32)
    if bounds.shape != (segments, 2):
        raise ValueError(f"bounds must be [segments, 2], not {list(bounds.shape)}")
    if arena.dtype is not dtype or arena.dim() != 1 or not arena.is_cpu or not arena.is_contiguous():
        found = f"{arena.dtype} {list(arena.shape)} on {arena.device}"
        raise ValueError(f"arena must be {dtype}, flat, contiguous and on the CPU, not {found}")
    for name, table in offsets.items():
        if table is not None and (entries(name, table, torch.int64) != segments or table.dim() != 1):
            raise ValueError(f"{name} must hold one offset for each of {segments} segments, not {list(table.shape)}")
    return segments


def norm_at(weight: Tensor | None, bias: Tensor | None, width: int) -> tuple[int, int]:
    """Where a norm's weight and bias lie."""
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and (entries(f"the norm's {name}", vector, torch.float32) != width or vector.dim() != 1):
            raise ValueError(f"the norm's {name} must be [{width}], not {list(vector.shape)}")
    return start(weight), start(bias)


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Where the tables of every row's prefix and of its length begin; they live as long as this does."""

    starts: int
    lengths: int
    held: tuple[object, ...] = ()

    @classmethod
    def of(cls, prefixes: Mapping[int, Tensor], rows: int, dtype: torch.dtype, full: int) -> Self:
        """The tables of prefixes [2, more, full]; null and 0 where a row has none."""
        starts, lengths = (c_void_p * rows)(), (c_int * rows)()
        for row, prefix in prefixes.items():
            if row not in range(rows):
                raise ValueError(f"prefixes names row {row}, and there are {rows}")
            stride(f"the prefix of row {row}", prefix, dtype, (2, prefix.shape[-2], full))
            if not prefix.is_contiguous():
                raise ValueError(f"the prefix of row {row} must be contiguous: call contiguous() first")
            starts[row], lengths[row] = prefix.data_ptr(), prefix.shape[1]
        return cls(ctypes.addressof(starts), ctypes.addressof(lengths), (starts, lengths))


NO_PREFIXES = Prefixes(0, 0)


def start(x: Tensor | None) -> int:
    """The address of the first element; 0, which is null, where there is no tensor."""
    return 0 if x is None else x.data_ptr()
