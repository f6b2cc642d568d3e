"""Activated LoRA (Greenewald et al. 2025, arXiv:2504.12397): an adapter acts from the tokens on that call it.

    y_i = W x_i + b + s B A x_i    for i >= t,        y_i = W x_i + b    in front of that

t is the place where the adapter's invocation begins the last time in the row; a row without it runs without the adapter.
What goes on behind a row is called as its prompt was, whatever tokens come.
"""

from dataclasses import replace

import numpy as np

from adapters.batch.rows import Fork, Ids, Row, leaves
from adapters.errors import InvalidArrangement


def called(row: Row) -> Row:
    """The row with the place from which its adapter acts, or without an adapter that it does not call.

    Rows whose adapter waits for no call are what they are, and so are those of several adapters (see `check_alone`).
    """
    if row.called is not None or len(row.members) != 1 or isinstance(row.members[0], Fork):
        return row
    tokens = row.members[0].adapter.invocation
    if tokens is None:
        return row
    place = _last(row.input_ids, tokens)
    return replace(row, members=()) if place is None else replace(row, called=place)


def check_alone(row: Row) -> None:
    """Raise `InvalidArrangement` for an adapter that waits for a call beside others: no library says who acts where."""
    if len(row.members) == 1 and not isinstance(row.members[0], Fork):
        return
    if any(leaf.adapter.invocation is not None for leaf in leaves(row.members)):
        raise InvalidArrangement("an adapter with invocation tokens (activated LoRA) can be arranged with no other")


def _last(ids: Ids, tokens: tuple[int, ...]) -> int | None:
    """Where `tokens` begin in `ids` the last time."""
    if len(ids) < len(tokens):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(ids, len(tokens))
    found = np.flatnonzero((windows == np.array(tokens)).all(1))
    return int(found[-1]) if len(found) else None
