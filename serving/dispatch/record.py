"""A good record: rows that were answered lately are not the first to be suspected when a replica dies.

Without it popular rows, of which every engine has some on board, would be on board of every loss.
"""

from collections.abc import Callable

from serving.request import Ticket

KEPT = 10_000  # rows, the oldest are forgotten first


class Record:
    """Rows by content that engines answered; each is vouched for once, until it is answered again.

    That is for one loss, and for others of what had left before it was seen: of one poison in two copies, two engines
    die at once, and their popular rows were on board of both. What leaves later could have been held.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock  # seconds
        # content -> the loss that it was vouched for in, and when, in order of answers
        self._losses: dict[int, tuple[str, float] | None] = {}

    def answered(self, ticket: Ticket) -> None:
        """An engine ran this row, and lives."""
        content = _content(ticket)
        self._losses.pop(content, None)
        self._losses[content] = None
        if len(self._losses) > KEPT:
            del self._losses[next(iter(self._losses))]

    def vouches(self, ticket: Ticket, replica: str, left: float) -> bool:
        """Whether the row, which was sent to a lost replica (`left`: when), is known too well to be suspected of it."""
        content = _content(ticket)
        if content not in self._losses:
            return False
        first, seen = self._losses[content] or (replica, self._clock())
        self._losses[content] = first, seen
        return replica == first or left < seen


def _content(ticket: Ticket) -> int:
    """Within one process what `fingerprint` is between processes, at a tenth of its price: every row pays it."""
    types = None if ticket.type_ids is None else ticket.type_ids.tobytes()
    asked = (ticket.composition, ticket.head, ticket.embedding, ticket.reduction, ticket.inserted, ticket.word_starts)
    return hash((asked, ticket.input_ids.tobytes(), types))
