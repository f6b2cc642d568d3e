"""Where an engine takes tickets: a port of its own, for gateways that say its password.

Replies of all calls of a gateway leave together as they finish. Whose connection ends waits for nothing any more. From
a gateway that does not read nothing is read, and what it has asked for waits as it is, up to a bound.
"""

import asyncio
import hmac
import json
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol, cast

from serving.dispatch.frames import Frames, Kind
from serving.dispatch.freight import read_tickets, write_replies
from serving.errors import EngineFailed
from serving.logs import log
from serving.request import Address, Reply, Result, Ticket
from serving.scheduler.replies import refusal
from serving.scheduler.waiting import Sink

HELLO_S = 5.0  # for a stranger to say who it is
STRANGERS = 32  # at once; of more, who came first is cut off
GOODBYE_S = 4.0  # for gateways to read what is left, and hang up; before Ray ends the replica
MOST_UNREAD = 8 << 20  # bytes of replies that are on their way to a gateway that does not read
MOST_KEPT = 512 << 20  # bytes of outputs that wait behind them; with more it is cut off
LARGE = 4 << 20  # bytes of outputs: a message ends there, and others on this loop have their turn


class Takes(Protocol):
    """What takes tickets. Implemented by `serving.engine.engine.Engine`."""

    def submit(self, tickets: Sequence[Ticket], sink: Sink) -> None:
        """Queue tickets; `sink` gets each reply once, in groups, from any thread."""
        ...

    def cancel(self, ids: Iterable[str]) -> None:
        """Nobody waits for these any more."""
        ...


class Listener:
    """The port of one engine; belongs to the event loop on which `address` is asked first."""

    def __init__(self, engine: Takes, host: str) -> None:
        self._engine = engine
        self._host = host
        # Gateways hear both from Ray, which lets no stranger ask. Who took over the port of an engine that died hears
        # its password, and knows no countersign.
        self._password, self._countersign = secrets.token_hex(), secrets.token_hex()
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._guests: dict[Guest, None] = {}  # as they came

    async def address(self) -> Address:
        """Where it listens, from the first question on."""
        async with self._starting:
            if self._server is None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(self._guest, self._host, 0)
        return Address(self._host, self._server.sockets[0].getsockname()[1], self._password, self._countersign)

    async def close(self) -> None:
        """Say goodbye to all, and wait until they have heard; what still comes meanwhile is the engine's to refuse."""
        if self._server is not None:
            self._server.close()
        guests = tuple(self._guests)
        for guest in guests:
            guest.bye()
        if guests:
            await asyncio.wait([guest.gone for guest in guests], timeout=GOODBYE_S)
        for guest in tuple(self._guests):
            guest.cut()

    def _guest(self) -> "Guest":
        return Guest(self._engine, self._password, self._countersign, self._guests)


class Guest(Frames):
    """The engine's end of the connection to one gateway, who is in `guests` until it is `gone`."""

    def __init__(self, engine: Takes, password: str, countersign: str, guests: "dict[Guest, None]") -> None:
        super().__init__()
        self._engine = engine
        self._password = password
        self._countersign = countersign
        self._guests = guests
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._silence: asyncio.TimerHandle | None = None  # while nobody knows who it is
        self._left: set[str] = set()  # tickets without an answer
        self._finished = deque[Reply]()  # not sent yet; filled on other threads
        self._kept = 0  # bytes of the outputs of these, as far as this loop has heard of them
        self._reads = True
        self._sink = self._finish  # one value: what it is given by one step comes at once

    @property
    def unknown(self) -> bool:
        """Whether it has not said who it is."""
        return self._silence is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        super().connection_made(transport)
        cast("asyncio.Transport", transport).set_write_buffer_limits(MOST_UNREAD)
        self._guests[self] = None
        self._silence = self._loop.call_later(HELLO_S, self.cut)
        strangers = [guest for guest in self._guests if guest.unknown]
        for guest in strangers[:-STRANGERS]:
            guest.cut()

    def got(self, kind: Kind, data: bytearray) -> None:
        """A message of the gateway."""
        if self.unknown:
            if kind is not Kind.HELLO or not hmac.compare_digest(data, self._password.encode()):
                raise PermissionError("who does not know the password is no gateway")
            self._met()
            self.trusted()
            self.send(Kind.WELCOME, self._countersign.encode())
        elif kind is Kind.TICKETS:
            self._submit(read_tickets(data))
        elif kind is Kind.CANCEL:
            self._engine.cancel(json.loads(data))
        else:
            raise ValueError(f"a gateway sends no {kind.name}")

    def ended(self, error: Exception | None) -> None:
        """The gateway is gone, or was cut off."""
        if error is not None:
            log("engine", "a connection was cut off", level=logging.WARNING, why=repr(error))
        self._met()
        self._guests.pop(self, None)
        self.gone.set_result(None)
        if self._left:
            self._engine.cancel(tuple(self._left))
            self._left.clear()

    def pause_writing(self) -> None:
        """Of `asyncio.Protocol`: the gateway does not read."""
        self._reads = False
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Of `asyncio.Protocol`: it has read."""
        self._reads = True
        if self._transport is not None:
            self._transport.resume_reading()
        self._flush()

    def bye(self) -> None:
        """Send what is finished, and that this is all; a stranger is cut off."""
        if self.unknown:
            self.cut()
            return
        while self._finished:
            self._send_some()
        self.send(Kind.BYE)

    def _met(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _submit(self, tickets: Sequence[Ticket]) -> None:
        ids = [ticket.id for ticket in tickets]
        self._left.update(ids)
        try:
            self._engine.submit(tickets, self._sink)
        except Exception:  # a bug: these are refused, and nobody else's rows suffer with them
            log("engine", "tickets could not be taken", level=logging.ERROR, error=True, rows=len(ids))
            self._engine.cancel(ids)
            error = EngineFailed("the engine could not take this row")
            self._sink(tuple(refusal(ticket, error, "") for ticket in tickets))

    def _finish(self, group: tuple[Reply, ...]) -> None:
        self._finished.extend(group)
        self._loop.call_soon_threadsafe(self._count, sum(map(_nbytes, group)))

    def _count(self, nbytes: int) -> None:
        if self._transport is None:  # nobody is there to send it to
            self._finished.clear()
            return
        self._kept += nbytes
        if self._kept > MOST_KEPT:
            log("engine", "a gateway does not read, and is cut off", level=logging.WARNING, bytes=self._kept)
            self.cut()
            return
        self._flush()

    def _flush(self) -> None:
        """Send what is there, a part at a time; the first of several turns takes all that fits into a message."""
        if self._finished and self._reads:
            self._send_some()
            if self._finished:
                self._loop.call_soon(self._flush)

    def _send_some(self) -> None:
        replies, nbytes = list[Reply](), 0
        while self._finished and nbytes < LARGE:
            replies.append(self._finished.popleft())
            nbytes += _nbytes(replies[-1])
        self._kept -= nbytes
        self._left.difference_update(reply.ticket for reply in replies)
        self.send(Kind.REPLIES, write_replies(replies))


def _nbytes(reply: Reply) -> int:
    return reply.output.nbytes if isinstance(reply, Result) else 0
