"""Two pinned chunks through which adapters reach a CUDA device: one is filled while the other is on its way.

A copy from ordinary host memory makes the driver copy it to pinned memory first, and wait: nothing runs beside it. To
pin every adapter instead would be a call to the driver each, milliseconds in which all streams stand still. It was
tested with streams that record what is asked of them; it has not run on a GPU yet.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

import torch
from torch import Tensor


class Mark(Protocol):
    """A place in the order of a stream: `torch.cuda.Event`."""

    def record(self, stream: torch.cuda.Stream) -> None:
        """Put it behind everything that was asked of the stream until now."""
        ...

    def synchronize(self) -> None:
        """Wait until the stream is past it; at once, where it was never recorded."""
        ...


class Staging:
    """What lies between host and device. Belongs to the loader's thread."""

    def __init__(
        self,
        chunks: Sequence[Tensor],
        marks: Sequence[Mark],
        stream: torch.cuda.Stream,
        on: Callable[[torch.cuda.Stream], AbstractContextManager[object]],
    ) -> None:
        """Chunks of one length and type, a mark for each, and what makes a stream the current one."""
        self._chunks = chunks
        self._marks = marks
        self._stream = stream
        self._on = on

    @classmethod
    def pinned(cls, dtype: torch.dtype, length: int, stream: torch.cuda.Stream) -> Self:
        """Two chunks of so many elements in pinned memory."""
        chunks = [torch.empty(length, dtype=dtype, pin_memory=True) for _ in range(2)]
        marks: list[Mark] = [torch.cuda.Event() for _ in chunks]  # type: ignore[no-untyped-call]
        return cls(chunks, marks, stream, torch.cuda.stream)

    def send(self, source: Tensor, target: Tensor) -> None:
        """Copy a flat tensor of the host to one of the device, converted to its type, in the order of the stream.

        Returns when the last chunk is on its way, not when it has arrived. `source` may change at once.
        """
        length = len(self._chunks[0])
        with torch.no_grad(), self._on(self._stream):
            for turn, start in enumerate(range(0, len(source), length)):
                held, mark = self._chunks[turn % len(self._chunks)], self._marks[turn % len(self._marks)]
                mark.synchronize()  # what lay there has been read
                part = source[start : start + length]
                held[: len(part)].copy_(part)
                target[start : start + len(part)].copy_(held[: len(part)], non_blocking=True)
                mark.record(self._stream)
