"""Passes of which nobody waits for the answer: a new engine knows how fast it is before it is asked for anything.

Without them all of a flood would be let in until the first steps were measured, and the first request would wait for
what a process makes once (threads, kernels, arenas).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from adapters.architectures.geometry import Geometry
from adapters.batch.rows import image_ids
from adapters.composition import BARE
from serving.engine.forward import Forward, Work
from serving.request import Reduced, Reduction, Ticket

ROWS, TOKENS = 8, 32  # of a pass, and of a row: as few as tell the rate from what a pass costs anyway
PASSES = 2  # the first makes what is made once


def rows_of(geometry: Geometry) -> tuple[Work, ...]:
    """Rows without adapters, of one token that is no padding, or of black images."""
    wanted = Reduction("hidden_state", pooling="mean")
    if geometry.image is not None:
        _, *size = geometry.image
        ids, black = image_ids(geometry).astype(np.int32), np.zeros((*size, 3), np.uint8)
        ticket = Ticket("", "", BARE, None, None, ids, None, wanted, 0.0, pixels=black)
        return tuple(Work(replace(ticket, id=f"rehearsal-{i}"), {}) for i in range(ROWS))
    length = min(TOKENS, geometry.max_tokens)
    ids = np.full(length, (geometry.pad_token_id + 1) % geometry.vocabulary, np.int32)
    return tuple(Work(Ticket(f"rehearsal-{i}", "", BARE, None, None, ids, None, wanted, 0.0), {}) for i in range(ROWS))


def tokens_per_s(forward: Forward, rows: Sequence[Work], clock: Callable[[], float]) -> float:
    """What the faster pass did; raises what a row is refused with."""
    return sum(len(row.ticket.input_ids) for row in rows) / min(_seconds(forward, rows, clock) for _ in range(PASSES))


def _seconds(forward: Forward, rows: Sequence[Work], clock: Callable[[], float]) -> float:
    began = clock()
    shares = forward.run(rows)
    seconds = clock() - began
    for share in shares:
        if not isinstance(share, Reduced):
            raise share
    return seconds
