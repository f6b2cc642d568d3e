"""What a name may have meant at any instant, as the operator who moves its alias knows it.

A move takes time: between its beginning and its acknowledgement both versions are right, afterwards only the new one.
"""

import math
from dataclasses import dataclass


@dataclass
class _Move:
    version: int
    begun: float
    done: float = math.inf


class Timeline:
    """The moves of one alias, one after another; times are seconds of one clock."""

    def __init__(self) -> None:
        self._moves: list[_Move] = []

    @property
    def version(self) -> int:
        """Where the alias was moved last, whether or not that is acknowledged."""
        return self._moves[-1].version

    def begin(self, version: int, at: float) -> None:
        """A move was asked for; raises `ValueError` where the one before has not ended."""
        if self._moves and self._moves[-1].done == math.inf:
            raise ValueError(f"the move to {self._moves[-1].version} has not been acknowledged")
        self._moves.append(_Move(version, at))

    def done(self, at: float) -> None:
        """The move was acknowledged."""
        self._moves[-1].done = at

    def current(self, began: float, ended: float) -> frozenset[int]:
        """Every version that was right at some instant between the two."""
        nexts = [move.done for move in self._moves[1:]] + [math.inf]
        return frozenset(
            move.version
            for move, replaced in zip(self._moves, nexts, strict=True)
            if move.begun <= ended and replaced >= began
        )
