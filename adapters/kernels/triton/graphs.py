"""Captured passes: a batch is padded to the sizes of a bucket, written in place, and the pass is replayed.

A replayed pass costs one launch instead of some two hundred, which is what small batches wait for. What differs between
passes of a bucket must lie in the tensors that are written: starts of rows, bounds of segments, offsets into the arena,
inputs. What changes the launches themselves (which sites have adapters, of which method, variant and width) belongs to
the key. `Captured` was tested with a capture that records calls; `capture` itself has not run on a GPU yet.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.kernels.triton.tiles import lanes, parts

MOST = 16384  # tokens of the largest bucket; above, launches no longer cost anything
STEPS = 4  # buckets until the next power of two: a fifth of a bucket is padding, at the most
TOKENS = (*(size + i * size // STEPS for size in (256, 512, 1024, 2048, 4096, 8192) for i in range(STEPS)), MOST)

Arrays = Mapping[str, NDArray[np.generic]]
Tensors = Mapping[str, Tensor]
# Runs a pass and keeps it: what replays it, and the tensor that each replay writes its result into.
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]


class NotCaptured(RuntimeError):
    """A pass could not be captured; its cause says why. Nothing was computed, and nothing is kept of it."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a bucket: tokens, and rows with those that hold the padding."""

    tokens: int
    rows: int


def shape_of(tokens: int, rows: int) -> Shape | None:
    """The smallest bucket that holds a batch; None for one that is so large that it should run as it is.

    The rows that are left for the padding are as many as keep each no longer than the batch's own are in the mean.
    """
    bucket = next((size for size in TOKENS if tokens <= size), None)
    return None if bucket is None else Shape(bucket, lanes(rows + parts(rows, STEPS) + 1))


def padded_starts(starts: Sequence[int], shape: Shape) -> NDArray[np.int32]:
    """Starts of rows [rows + 1] that ascend to all tokens of the bucket: the padding lies in rows behind the batch's.

    It is shared among them evenly, since the cost of a row grows with the square of its length.
    """
    spare = shape.rows + 1 - len(starts)
    if spare < 1:
        raise ValueError(f"{len(starts) - 1} rows leave none of {shape.rows} for the padding")
    behind = np.linspace(starts[-1], shape.tokens, spare + 1).astype(np.int32)
    return np.concatenate([np.asarray(starts, np.int32), behind[1:]])


def padded_bounds(bounds: Sequence[tuple[int, int]], segments: int) -> NDArray[np.int32]:
    """Bounds of segments [segments, 2] with empty segments behind them."""
    padded = np.zeros((segments, 2), np.int32)
    padded[: len(bounds)] = np.asarray(bounds, np.int32).reshape(-1, 2)
    return padded


def padded_offsets(offsets: Sequence[int] | NDArray[np.int64], segments: int) -> NDArray[np.int64]:
    """Offsets of the segments' parameters [segments]; those of the empty ones are never read."""
    padded = np.zeros(segments, np.int64)
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

    def run(
        self, key: Hashable, arrays: Arrays, states: Tensors, tokens: int, compute: Callable[[Tensors], Tensor]
    ) -> Tensor:
        """`compute` of these arrays and states, captured at the first pass of a key and replayed at those that follow.

        arrays lie on the host, and have the shapes of the key's first. states [1, n, ...] lie on the device, and are
        computed as [1, tokens, ...] with zeros behind them. `key` stands for everything else: the shape, the launches,
        the arena. The result is overwritten by the next pass of any key; copy what is needed of it. Raises
        `ValueError` where something differs in form from the key's first pass, and `NotCaptured`.
        """
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._made(arrays, states, tokens, compute)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        _write(held.inputs, arrays, states)
        held.replay()
        return held.output

    def __len__(self) -> int:
        return len(self._held)

    def _made(self, arrays: Arrays, states: Tensors, tokens: int, compute: Callable[[Tensors], Tensor]) -> Held:
        made = {name: torch.from_numpy(array).to(self._device, copy=True) for name, array in arrays.items()}
        made |= {name: state.new_zeros(1, tokens, *state.shape[2:]) for name, state in states.items()}
        _write(made, arrays, states)  # already the first run must find places that exist
        try:
            replay, output = self._capture(lambda: compute(made))
        except RuntimeError as error:
            raise NotCaptured(str(error)) from error
        return Held(made, replay, output)


def capture(pool: Any) -> Capture:
    """The capture of CUDA, whose passes share one pool (`torch.cuda.graph_pool_handle()`): only one's result is valid."""

    def captured(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        aside: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            compute()  # compiles kernels and makes handles, which no capture may do
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads go on uploading adapters meanwhile; "global" would make their calls fail, and the capture.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = compute()
        return graph.replay, output

    return captured


def _write(due: Tensors, arrays: Arrays, states: Tensors) -> None:
    """Copy values into tensors in the order of the stream, without waiting; those of the host through pinned memory."""
    if due.keys() != arrays.keys() | states.keys():
        raise ValueError(f"this pass was captured with {', '.join(due)}, not {', '.join((*arrays, *states))}")
    sources = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, source in sources.items():
        _check(name, due[name], source, tuple(source.shape))
    for name, state in states.items():
        _check(name, due[name], state, (1, max(state.shape[1], due[name].shape[1]), *state.shape[2:]))
    for name, source in sources.items():
        # torch keeps the pinned copy until the stream has read it
        due[name].copy_(source.pin_memory() if due[name].is_cuda else source, non_blocking=True)
    for name, state in states.items():
        due[name][:, : state.shape[1]].copy_(state)
        due[name][:, state.shape[1] :].zero_()  # no tenant's words stay behind


def _check(name: str, due: Tensor, given: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(due.shape) != shape or due.dtype != given.dtype:
        raise ValueError(f"{name} was captured as {due.dtype} {list(due.shape)}, not {given.dtype} {list(given.shape)}")
