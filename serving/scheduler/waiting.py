"""A ticket on its way through the scheduler: as it waits, and as it was picked for a batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from adapters.refs import AdapterRef
from serving.request import Reply, Ticket, tokens_run

Sink = Callable[[tuple[Reply, ...]], None]
"""Takes the replies of one call that became ready together. Called from any thread; must not block."""

Ready = Callable[[tuple[AdapterRef, ...]], Mapping[AdapterRef, int] | None]
"""Bytes on the device of each reference if all are resident now, else None."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A ticket in the queue. Times are seconds of the scheduler's own monotonic clock."""

    ticket: Ticket
    refs: tuple[AdapterRef, ...]
    sink: Sink
    arrived: float
    deadline: float

    @property
    def tokens(self) -> int:
        """Tokens that the backbone runs for the row, each through as many layers as it has (see `tokens_run`)."""
        return tokens_run(len(self.ticket.input_ids), self.ticket.inserted, self.ticket.visits)


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """A row of the next batch; what it waited (seconds) for its turn, and from the first miss of its adapters on.

    `paid` is the virtual time that its tenant was charged, to be given back where the row does not run; `loads` is what
    of that was for adapters (layers x tokens), which is owed again then.
    """

    waiting: Waiting
    queue_s: float
    load_s: float
    paid: float = 0.0
    loads: Mapping[AdapterRef, float] = field(default_factory=dict)
