"""A good record: rows that were answered lately are not the first to be suspected when a replica dies.

Without it popular rows, of which every engine has some on board, would be on board of every loss.
"""

from collections.abc import Callable

from serving.dispatch.suspects import FATAL
from serving.request import Ticket

KEPT = 10_000  # rows, the oldest are forgotten first
_CLEAN = frozenset[str](), 0.0  # of a row that was just answered


class Record:
    """Rows by content that engines answered; each is vouched for in two losses, until it is answered again.

    A poison takes two engines, and a popular row is on board of both: in two copies where they die at once, or in one,
    which travels on from the first to the second. To vouch for it in the first alone would not do: as gateways see two
    deaths in any order, one would suspect it of this, another of that, and all of both. It is also vouched for in other
    losses of what had left before the second was seen. What leaves later could have been held.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # seconds
        # content -> the losses that it was vouched for in, and when the last of them was seen; in order of answers
        self._losses: dict[int, tuple[frozenset[str], float]] = {}

    def answered(self, ticket: Ticket) -> None:
        """An engine ran this row, and lives."""
        content = _content(ticket)
        self._losses.pop(content, None)
        self._losses[content] = _CLEAN
        if len(self._losses) > KEPT:
            del self._losses[next(iter(self._losses))]

    def vouches(self, ticket: Ticket, replica: str, left: float) -> bool:
        """Whether the row, which was sent to a lost replica (`left`: when), is known too well to be suspected of it."""
        content = _content(ticket)
        if content not in self._losses:
            return False
        losses, seen = self._losses[content]
        if len(losses) < FATAL:
            losses, seen = self._losses[content] = losses | {replica}, self._clock()
        return replica in losses or left < seen


def _content(ticket: Ticket) -> int:
    """Within one process what `fingerprint` is between processes, at a tenth of its price: every row pays it."""
    types = None if ticket.type_ids is None else ticket.type_ids.tobytes()
    asked = (ticket.composition, ticket.head, ticket.embedding, ticket.reduction, ticket.inserted, ticket.word_starts)
    pixels = None if ticket.pixels is None else ticket.pixels.tobytes()
    return hash((asked, ticket.input_ids.tobytes(), types, pixels))
