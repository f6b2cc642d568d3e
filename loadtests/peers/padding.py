"""Rows as libraries that do not pack take them: padded to the longest of their batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Batch:
    """Token ids [rows, longest] with zeros on the right, their mask, and where each row stands in the order given."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    places: tuple[int, ...]

    def taken(self, states: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(place, states [length, hidden]) of every row, from `states` [rows, longest, hidden]."""
        lengths = self.mask.sum(axis=1)
        return ((place, states[i, : lengths[i]]) for i, place in enumerate(self.places))


def in_order_of_arrival(rows: Sequence[Sequence[int]]) -> Batch:
    """All rows in one batch."""
    return _batch(rows, range(len(rows)))


def by_length(rows: Sequence[Sequence[int]], size: int) -> tuple[Batch, ...]:
    """Batches of at most `size` rows, each of rows that are about as long."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    return tuple(_batch(rows, order[start : start + size]) for start in range(0, len(order), size))


def one_by_one(rows: Sequence[Sequence[int]]) -> tuple[Batch, ...]:
    """A batch for every row, in their order; nothing is padded."""
    return tuple(_batch(rows, [place]) for place in range(len(rows)))


def _batch(rows: Sequence[Sequence[int]], places: Sequence[int]) -> Batch:
    longest = max(len(rows[place]) for place in places)
    ids = np.zeros((len(places), longest), np.int64)
    mask = np.zeros((len(places), longest), np.int64)
    for i, place in enumerate(places):
        ids[i, : len(rows[place])] = rows[place]
        mask[i, : len(rows[place])] = 1
    return Batch(ids, mask, tuple(places))
