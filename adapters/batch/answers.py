"""The rows' own shares of a pass, on their way from the device to the host.

An accelerator computes long after it was asked to. All shares of a pass cross as one copy into pinned memory behind a
mark in the stream: until somebody waits for it, the host is free to plan the next pass. This has run with a stand-in for
the copy, and on no GPU yet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Answers:
    """What a pass leaves for its rows: `shares` are float32 on the host, and hold nothing before `arrive` returns."""

    shares: tuple[Tensor, ...]
    arrive: Callable[[], object]

    def wait(self) -> list[Tensor]:
        """The rows' shares, in the order of the rows. Raises what befell the device meanwhile."""
        self.arrive()
        return list(self.shares)


def answers_of(shares: Sequence[Tensor]) -> Answers:
    """Shares of any shapes where they were computed -> on their way; on the host they have arrived."""
    if not shares or shares[0].device.type == "cpu":
        return Answers(tuple(share.float() for share in shares), _nothing)
    held, arrive = _crossing(torch.cat([share.reshape(-1).float() for share in shares]))
    pieces = torch.split(held, [share.numel() for share in shares])
    return Answers(tuple(piece.view(share.shape) for piece, share in zip(pieces, shares, strict=True)), arrive)


def _crossing(flat: Tensor) -> tuple[Tensor, Callable[[], object]]:
    """A copy on the host that is on its way, and what waits for it."""
    held = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
    held.copy_(flat, non_blocking=True)
    mark = torch.cuda.Event()  # type: ignore[no-untyped-call]
    mark.record()
    return held, mark.synchronize


def _nothing() -> None:
    pass
