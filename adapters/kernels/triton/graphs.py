"""Captured passes: a batch's arrays are padded to the sizes of a bucket, written in place, and the pass is replayed.

A replayed pass costs one launch instead of some two hundred, which is what small batches wait for. What differs between
passes of a bucket must lie in the arrays: starts of rows, bounds of segments, offsets into the arena, inputs. What
changes the launches themselves (which sites have adapters, of which method, variant and width) is part of the key.
`Captured` was tested with a capture that records calls; `capture` itself has not run on a GPU yet.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.kernels.triton.tiles import lanes

TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384)  # of the buckets; above, launches no longer cost anything

Arrays = Mapping[str, NDArray[np.generic]]
Tensors = Mapping[str, Tensor]
# Runs a pass and keeps it: what replays it, and the tensor that each replay writes its result into.
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


@dataclass(frozen=True)
class Shape:
    """The sizes of a bucket: tokens, rows, and segments of every operand."""

    tokens: int
    rows: int
    segments: int


def shape_of(tokens: int, rows: int, segments: int) -> Shape | None:
    """The smallest bucket that holds a batch; None for one that is so large that it should run as it is."""
    bucket = next((size for size in TOKENS if tokens <= size), None)
    return None if bucket is None else Shape(bucket, lanes(rows), lanes(segments))


def padded_starts(starts: Sequence[int], shape: Shape) -> NDArray[np.int32]:
    """Starts of rows [rows + 1] with empty rows behind them; the tokens after the last row belong to none."""
    padded = np.full(shape.rows + 1, starts[-1], np.int32)
    padded[: len(starts)] = starts
    return padded


def padded_bounds(bounds: Sequence[tuple[int, int]], shape: Shape) -> NDArray[np.int32]:
    """Bounds of segments [segments, 2] with empty segments behind them."""
    padded = np.zeros((shape.segments, 2), np.int32)
    padded[: len(bounds)] = np.asarray(bounds, np.int32).reshape(-1, 2)
    return padded


def padded_offsets(offsets: Sequence[int], shape: Shape) -> NDArray[np.int64]:
    """Offsets of the segments' parameters [segments]; those of the empty ones are never read."""
    padded = np.zeros(shape.segments, np.int64)
    padded[: len(offsets)] = offsets
    return padded


@dataclass(frozen=True, eq=False)
class Held:
    """One captured pass: the tensors that it reads, what replays it, and the tensor that it writes."""

    inputs: Tensors
    replay: Callable[[], None]
    output: Tensor


class Captured:
    """The passes of a device that were captured; the `limit` that were used last are kept. One pass at a time."""

    def __init__(self, capture: Capture, device: torch.device, limit: int = 64) -> None:
        self._capture = capture
        self._device = device
        self._limit = limit
        self._held: OrderedDict[Hashable, Held] = OrderedDict()

    def run(self, key: Hashable, arrays: Arrays, compute: Callable[[Tensors], Tensor]) -> Tensor:
        """`compute` of these arrays, captured at the first pass of a key and replayed at those that follow.

        `key` stands for all that is no array: the shape, the launches, the arena. The result is overwritten by the next
        pass of any key; copy what is needed of it. Raises `ValueError` where arrays differ in shape or type from those
        of the key's first pass.
        """
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._made(arrays, compute)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        _write(held.inputs, arrays)
        held.replay()
        return held.output

    def __len__(self) -> int:
        return len(self._held)

    def _made(self, arrays: Arrays, compute: Callable[[Tensors], Tensor]) -> Held:
        inputs = {name: torch.from_numpy(array).to(self._device, copy=True) for name, array in arrays.items()}
        replay, output = self._capture(lambda: compute(inputs))
        return Held(inputs, replay, output)


def capture(pool: Any) -> Capture:
    """The capture of CUDA, whose passes share one pool (`torch.cuda.graph_pool_handle()`): only one's result is valid."""

    def captured(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        aside: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            compute()  # compiles kernels and makes handles, which no capture may do
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            output = compute()
        return graph.replay, output

    return captured


def _write(inputs: Tensors, arrays: Arrays) -> None:
    """Copy arrays into tensors in the order of the stream, without waiting; on CUDA through pinned memory."""
    if inputs.keys() != arrays.keys():
        raise ValueError(f"this pass was captured with {', '.join(inputs)}, not {', '.join(arrays)}")
    sources = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, source in sources.items():
        due = inputs[name]
        if source.shape != due.shape or source.dtype != due.dtype:
            raise ValueError(
                f"{name} was captured as {due.dtype} {list(due.shape)}, not {source.dtype} {list(source.shape)}"
            )
    for name, source in sources.items():
        # torch keeps the pinned copy until the stream has read it
        inputs[name].copy_(source.pin_memory() if inputs[name].is_cuda else source, non_blocking=True)
