"""Tickets on their way, and the send buffers in which they leave."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from serving.dispatch.suspects import fingerprint
from serving.request import Reply, Ticket


@dataclass(slots=True, eq=False)
class Request:
    """What the rows of one request share: their fate, the few replicas that they are spread over, and the losses."""

    left: int = 0  # that are not answered yet
    replicas: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # those that died with one of its rows on board
    _over: asyncio.Event = field(default_factory=asyncio.Event)  # none is left

    def settled(self) -> None:
        """One more row is answered."""
        self.left -= 1
        if not self.left:
            self._over.set()

    async def over(self, timeout_s: float) -> None:
        """Wait until all rows are answered, or so much time has passed."""
        if self.left:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), timeout_s)


@dataclass(slots=True, eq=False)
class Flight:
    """One ticket on its way: its future, its deadline (seconds on the loop's clock) and its journeys so far."""

    ticket: Ticket
    answer: asyncio.Future[Reply]
    deadline: float
    request: Request
    replica: str | None = None  # where it is in a lane or on board
    tried: list[str] = field(default_factory=list)  # replicas that did not answer it
    failures: int = 0  # calls that ended without an answer and without a loss
    left: float = 0.0  # when it was sent last, on the loop's clock
    # When an engine was told last to give it back; kept, for the word may come late and find it on its next journey.
    recalled: float | None = None
    _print: str | None = None

    @property
    def print_(self) -> str:
        """The ticket's fingerprint; made when it is first asked for, which most never are."""
        if self._print is None:
            self._print = fingerprint(self.ticket)
        return self._print


@dataclass(slots=True, eq=False)
class Lane:
    """The send buffer of one replica, how many calls to it are open, and the timer of the next one."""

    buffer: list[Flight] = field(default_factory=list)
    open: int = 0
    timer: asyncio.Handle | None = None
