"""Everyone in turn: rounds in which each contender computes once while all others wait, whoever was first goes last."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from loadtests.peers.contenders import Contender

TURN_S = 0.15  # of clocked work in a turn, where one pass is shorter than that
MOST_PASSES = 20
LONG_S = 0.5  # a pass that long does not feel what the caches held before


class Asked(Protocol):
    """A library's process."""

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a message."""


@dataclass(frozen=True)
class Entrant:
    """A contender, and the process that computes for it."""

    contender: Contender
    process: Asked

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        """The answer to a message about its run."""
        return self.process.ask({"do": do, "run": [self.contender.way, self.contender.method], **more})

    def seconds(self, passes: int, *, warm: bool) -> float:
        """Median seconds of a pass."""
        found: list[float] = self.ask("time", passes=passes, warm=warm)["seconds"]
        return statistics.median(found)


@dataclass(frozen=True)
class Turn:
    """How long an entrant's turn is: clocked passes, and whether one without a clock goes before them."""

    passes: int
    warm: bool


def turn_for(seconds: float) -> Turn:
    """The turn of a contender whose pass takes about that long."""
    return Turn(max(1, min(MOST_PASSES, round(TURN_S / max(seconds, 1e-6)))), seconds < LONG_S)


def meet(
    entrants: Sequence[Entrant], rounds: int, rest: Callable[[], None], tell: Callable[[str], None]
) -> dict[Contender, tuple[float, ...]]:
    """Seconds of a pass per contender and round. `rest` comes between turns: idle threads spin for some milliseconds."""
    turns = {}
    for entrant in entrants:
        turns[entrant] = turn_for(entrant.seconds(1, warm=False))  # it has answered before
        rest()
    found: dict[Contender, list[float]] = {entrant.contender: [] for entrant in entrants}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        shift = number % len(entrants)
        for entrant in (*entrants[shift:], *entrants[:shift]):
            turn = turns[entrant]
            found[entrant.contender].append(entrant.seconds(turn.passes, warm=turn.warm))
            rest()
    return {contender: tuple(seconds) for contender, seconds in found.items()}
