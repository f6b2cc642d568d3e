"""Segments: which rows of a batch share an adapter at one depth. Pure Python, no torch."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RowLayout:
    """Where the rows lie among the packed tokens, in the batch's own order.

    `starts[i]` is the first token of row i, and `starts[rows]` the number of tokens; no token is padding.
    """

    starts: tuple[int, ...]  # [rows + 1]: cu_seqlens

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.starts[-1]

    def bounds(self, row: int) -> tuple[int, int]:
        """First token of a row, and one past its last."""
        return self.starts[row], self.starts[row + 1]


@dataclass(frozen=True)
class Segment:
    """Rows `first` .. `last`-1, which lie side by side and share one key."""

    key: Hashable
    first: int
    last: int


def layout_of(lengths: Iterable[int]) -> RowLayout:
    """The layout of rows of these lengths, one after another."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    return RowLayout(tuple(starts))


def order_rows(stacks: Sequence[tuple[Hashable, ...]]) -> tuple[int, ...]:
    """An order of rows in which equal stacks touch, and stacks that agree from the bottom up stand close.

    Every distinct element is ranked by first appearance, so the order is stable and depends on nothing else.
    """
    rank: dict[Hashable, int] = {}
    for stack in stacks:
        for key in stack:
            rank.setdefault(key, len(rank))
    return tuple(sorted(range(len(stacks)), key=lambda row: [rank[key] for key in stacks[row]]))


def segments_of(keys: Sequence[Hashable | None]) -> tuple[Segment, ...]:
    """Runs of equal keys in row order; rows with None belong to no segment."""
    found: list[Segment] = []
    for row, key in enumerate(keys):
        if key is None:
            continue
        if found and found[-1].key == key and found[-1].last == row:
            found[-1] = Segment(key, found[-1].first, row + 1)
        else:
            found.append(Segment(key, row, row + 1))
    return tuple(found)
