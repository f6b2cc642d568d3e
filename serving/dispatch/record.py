"""A good record: rows that were answered lately are not the first to be suspected when a replica dies.

Without it popular rows, of which every engine has some on board, would be on board of every loss.
"""

from serving.request import Ticket

KEPT = 10_000  # rows, the oldest are forgotten first


class Record:
    """Rows by content that engines answered; each is vouched for once, for one loss, until it is answered again."""

    def __init__(self) -> None:
        self._losses: dict[int, str | None] = {}  # content -> the loss that it was vouched for in, in order of answers

    def answered(self, ticket: Ticket) -> None:
        """An engine ran this row, and lives."""
        content = _content(ticket)
        self._losses.pop(content, None)
        self._losses[content] = None
        if len(self._losses) > KEPT:
            del self._losses[next(iter(self._losses))]

    def vouches(self, ticket: Ticket, replica: str) -> bool:
        """Whether the row, which was on board of a lost replica, is known too well to be suspected of it."""
        content = _content(ticket)
        if content not in self._losses or self._losses[content] not in {None, replica}:
            return False
        self._losses[content] = replica
        return True


def _content(ticket: Ticket) -> int:
    """Within one process what `fingerprint` is between processes, at a tenth of its price: every row pays it."""
    types = None if ticket.type_ids is None else ticket.type_ids.tobytes()
    asked = (ticket.composition, ticket.head, ticket.embedding, ticket.reduction, ticket.inserted, ticket.word_starts)
    return hash((asked, ticket.input_ids.tobytes(), types))
