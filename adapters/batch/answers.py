"""The rows' own shares of a pass, on their way from the device to the host.

An accelerator computes long after it was asked to. All shares of a pass cross as one copy into pinned memory behind a
mark in the stream: until somebody waits for it, the host is free to plan the next pass. This has run with stand-ins for
the marks and the copy, and on no GPU yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Mark(Protocol):
    """A place in the order of a device's work: `torch.cuda.Event`."""

    def synchronize(self) -> None:
        """Wait until the device is past it."""
        ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from here to a later mark; the device is past both."""
        ...


@dataclass(eq=False)
class Answers:
    """What a pass leaves for its rows: `shares` are float32 on the host, and hold nothing before `wait` returns.

    `seconds` is then how long the pass took from when its turn came on the device; None where the host computed it.
    """

    shares: tuple[Tensor, ...]
    marks: tuple[Mark, Mark] | None = None  # where the pass began, and where its shares have arrived
    seconds: float | None = None

    def wait(self) -> list[Tensor]:
        """The rows' shares, in the order of the rows. Raises what befell the device meanwhile."""
        if self.marks is not None:
            began, arrived = self.marks
            arrived.synchronize()
            self.seconds = began.elapsed_time(arrived) / 1000
        return list(self.shares)


NOTHING = Answers(())  # of no rows


def mark(device: torch.device) -> Mark | None:
    """The present place in the order of a device's work; None for the host, which works at once."""
    if device.type != "cuda":
        return None
    event: Mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()  # type: ignore[attr-defined]
    return event


def answers_of(shares: Sequence[Tensor], began: Mark | None) -> Answers:
    """Shares of any shapes where they were computed -> on their way. `began` is where their pass did."""
    if not shares or began is None:
        return Answers(tuple(share.float().cpu() for share in shares))
    held, arrived = _crossing(torch.cat([share.reshape(-1).float() for share in shares]))
    pieces = torch.split(held, [share.numel() for share in shares])
    views = tuple(piece.view(share.shape) for piece, share in zip(pieces, shares, strict=True))
    return Answers(views, (began, arrived))


def _crossing(flat: Tensor) -> tuple[Tensor, Mark]:
    """A copy on the host that is on its way, and where it has arrived."""
    held = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
    held.copy_(flat, non_blocking=True)
    arrived = mark(flat.device)
    assert arrived is not None
    return held, arrived
