"""Where an engine takes tickets: a port of its own, for gateways that say its password.

Replies of all calls of a gateway leave together, in the groups in which they finish. Whose connection ends waits for
nothing any more. From a gateway that does not read nothing is read: it can have no more than what it has asked for.
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
from serving.logs import log
from serving.request import Address, Reply, Result, Ticket
from serving.scheduler.waiting import Sink

HELLO_S = 5.0  # for a stranger to say who it is
GOODBYE_S = 2.0  # for gateways to hang up
MOST_UNREAD = 8 << 20  # bytes of replies that wait for a gateway before it is told to read
LARGE = 64 << 20  # bytes of outputs: a message ends there, at the next group's end


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
        self._guests: set[Guest] = set()

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

    def __init__(self, engine: Takes, password: str, countersign: str, guests: "set[Guest]") -> None:
        super().__init__()
        self._engine = engine
        self._password = password
        self._countersign = countersign
        self._guests = guests
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._silence: asyncio.TimerHandle | None = None  # while nobody knows who it is
        self._left: set[str] = set()  # tickets without an answer
        self._finished = deque[tuple[Reply, ...]]()  # groups that were not sent yet; filled on other threads
        self._sink = self._finish  # one value: what it is given by one step comes at once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        super().connection_made(transport)
        cast("asyncio.Transport", transport).set_write_buffer_limits(MOST_UNREAD)
        self._guests.add(self)
        self._silence = self._loop.call_later(HELLO_S, self.cut)

    def got(self, kind: Kind, data: bytearray) -> None:
        """A message of the gateway."""
        if self._silence is not None:
            if kind is not Kind.HELLO or not hmac.compare_digest(data, self._password.encode()):
                raise PermissionError("who does not know the password is no gateway")
            self._met()
            self.trusted()
            self.send(Kind.WELCOME, self._countersign.encode())
        elif kind is Kind.TICKETS:
            tickets = read_tickets(data)
            self._left.update(ticket.id for ticket in tickets)
            self._engine.submit(tickets, self._sink)
        elif kind is Kind.CANCEL:
            self._engine.cancel(json.loads(data))
        else:
            raise ValueError(f"a gateway sends no {kind.name}")

    def ended(self, error: Exception | None) -> None:
        """The gateway is gone, or was cut off."""
        if error is not None:
            log("engine", "a connection was cut off", level=logging.WARNING, why=repr(error))
        self._met()
        self._guests.discard(self)
        self.gone.set_result(None)
        if self._left:
            self._engine.cancel(tuple(self._left))
            self._left.clear()

    def pause_writing(self) -> None:
        """Of `asyncio.Protocol`: the gateway does not read."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Of `asyncio.Protocol`: it has read."""
        if self._transport is not None:
            self._transport.resume_reading()

    def bye(self) -> None:
        """Send what is finished, and that this is all; a stranger is cut off."""
        if self._silence is not None:
            self.cut()
            return
        self._flush()
        self.send(Kind.BYE)

    def _met(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _finish(self, group: tuple[Reply, ...]) -> None:
        self._finished.append(group)
        self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        """Send all groups that are there; the first of several turns takes all."""
        while self._finished:
            replies, nbytes = list[Reply](), 0
            while self._finished and nbytes < LARGE:
                group = self._finished.popleft()
                replies += group
                nbytes += sum(reply.output.nbytes for reply in group if isinstance(reply, Result))
            self._left.difference_update(reply.ticket for reply in replies)
            self.send(Kind.REPLIES, write_replies(replies))
