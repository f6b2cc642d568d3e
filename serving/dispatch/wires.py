"""The engines by wire: a connection to each of them, on which the rows of all calls travel.

Ray Serve's own calls cost both ends more than most rows are worth: a route, a stream and several turns of threads for
each. Who is there, and where, Ray says (`Holding.listens`); what a connection that ends means, is said here. It may end
by itself (a network that parts, a gateway that was stopped for a while), which says nothing of the rows on it. So the
engine is asked once more, on a new connection: only where its port is nobody's, or somebody else's, has it died.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

from serving.dispatch.frames import Frames, Kind
from serving.dispatch.freight import read_replies, write_tickets
from serving.dispatch.ports import ReplicaLeft, ReplicaLost
from serving.logs import log
from serving.request import Address, Holding, Reply, Ticket

CONNECT_S = 2.0
MOST_UNSENT = 64 << 20  # bytes for an engine that does not read: it is full with much less, and gets no more

_Got = tuple[Reply, ...] | ReplicaLost | ReplicaLeft


class Wires:
    """Implements `serving.dispatch.ports.EnginePort`; belongs to one event loop."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._wires: dict[str, Wire] = {}
        self._connecting: dict[str, asyncio.Task[Wire]] = {}
        self._asking: set[asyncio.Task[None]] = set()  # whether engines have died whose connections ended

    def observe(self, holdings: Mapping[str, Holding]) -> None:
        """Take over where every live replica listens. What is under way to others is not touched: they may answer yet."""
        self._addresses = {name: held.listens for name, held in holdings.items() if held.listens is not None}
        self._wires = {name: wire for name, wire in self._wires.items() if not wire.over}

    async def call(self, replica: str, tickets: Sequence[Ticket]) -> AsyncIterator[tuple[Reply, ...]]:
        """Hand tickets to one replica; yields groups of replies. Raises `ReplicaLost`, `ReplicaLeft`."""
        wire = self._open(replica) or await self._connected(replica)
        async with aclosing(wire.call(tickets)) as groups:
            async for group in groups:
                yield group

    async def cancel(self, replica: str, ids: Sequence[str]) -> None:
        """Tell one replica to refuse these tickets where they wait there; without a connection they wait nowhere."""
        wire = self._open(replica)
        if wire is not None:
            wire.cancel(ids)

    async def close(self) -> None:
        """Hang up everywhere."""
        tasks = (*self._connecting.values(), *self._asking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica, wire in self._wires.items():
            wire.give_up(ReplicaLeft(f"{replica}: this gateway hangs up"))
            wire.close()
        self._wires.clear()

    def _open(self, replica: str) -> "Wire | None":
        wire = self._wires.get(replica)
        if wire is not None and wire.over:
            del self._wires[replica]
            return None
        return wire

    async def _connected(self, replica: str) -> "Wire":
        """One connection for all who ask meanwhile; raises `ReplicaLeft`."""
        if replica not in self._connecting:
            task = self._connecting[replica] = asyncio.ensure_future(self._connect(replica))
            task.add_done_callback(partial(self._settled, replica))
        return await asyncio.shield(self._connecting[replica])  # whoever gives up, the others wait on

    def _settled(self, replica: str, task: "asyncio.Task[Wire]") -> None:
        del self._connecting[replica]
        if not task.cancelled():
            task.exception()  # those who waited have it, if any were left

    async def _connect(self, replica: str) -> "Wire":
        address = self._addresses.get(replica)
        if address is None:
            raise ReplicaLeft(f"{replica}: nobody knows where it listens")
        wire = Wire(replica, address, self._broken)
        try:
            await _meet(wire, address)
        except (OSError, TimeoutError) as error:
            raise ReplicaLeft(f"{replica}: {type(error).__name__}") from error
        self._wires[replica] = wire
        return wire

    def _broken(self, wire: "Wire") -> None:
        task = asyncio.get_running_loop().create_task(self._ask(wire))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, wire: "Wire") -> None:
        """Tell those who wait on a connection that has ended what became of the engine."""
        told = f"{wire.replica}: the connection ended, and "
        end: ReplicaLost | ReplicaLeft = ReplicaLeft(f"{told}nobody found out why")  # whatever happens, they are told
        again = Wire(wire.replica, wire.address, self._broken)
        try:
            await _meet(again, wire.address)
        except ConnectionError:  # nobody is there, or who is knows neither password nor countersign
            end = ReplicaLost(f"{told}the engine is gone")
        except (OSError, TimeoutError) as error:
            end = ReplicaLeft(f"{told}it can not be reached: {type(error).__name__}")
        else:
            end = ReplicaLeft(f"{told}the engine lives")
            if self._open(wire.replica) is None:
                self._wires[wire.replica] = again
            else:
                again.close()
        finally:
            wire.give_up(end)


class Wire(Frames):
    """The gateway's end of the connection to one engine. `welcome` is done when the engine takes tickets."""

    def __init__(self, replica: str, address: Address, broken: "Callable[[Wire], None]") -> None:
        """`broken` is called when the connection ends by itself; it has to see to it that `give_up` is."""
        super().__init__()
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replica = replica
        self.address = address
        self.over = False  # nothing may be sent any more
        self._broken = broken
        self._calls: dict[str, asyncio.Queue[_Got]] = {}  # by ticket that has no answer

    async def call(self, tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[Reply, ...]]:
        """As `Wires.call`; a call that ends early cancels what it has no answer to."""
        if self.unsent > MOST_UNSENT:
            raise ReplicaLeft(f"{self.replica}: it does not read")
        if self.over or not self.send(Kind.TICKETS, write_tickets(tickets)):
            raise ReplicaLeft(f"{self.replica}: the connection is over")
        queue, left = asyncio.Queue[_Got](), {ticket.id for ticket in tickets}
        self._calls.update(dict.fromkeys(left, queue))
        try:
            while left:
                got = await queue.get()
                if isinstance(got, Exception):
                    raise _anew(got)
                left.difference_update(reply.ticket for reply in got)
                yield got
        finally:
            for ident in left:
                self._calls.pop(ident, None)
            if left:
                self.cancel(tuple(left))

    def cancel(self, ids: Sequence[str]) -> None:
        """Nobody waits for these any more."""
        self.send(Kind.CANCEL, json.dumps(list(ids)).encode())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        super().connection_made(transport)
        self.send(Kind.HELLO, self.address.password.encode())

    def got(self, kind: Kind, data: bytearray) -> None:
        """A message of the engine."""
        if not self.welcome.done():
            if kind is not Kind.WELCOME or not hmac.compare_digest(data, self.address.countersign.encode()):
                raise PermissionError("who does not know the countersign is no engine")
            self.trusted()
            self.welcome.set_result(None)
        elif kind is Kind.REPLIES:
            self._answered(read_replies(data))
        elif kind is Kind.BYE:
            self.give_up(ReplicaLeft(f"{self.replica}: it takes nothing more"))
            self.close()
        else:
            raise ValueError(f"an engine sends no {kind.name}")

    def ended(self, error: Exception | None) -> None:
        """Every call ends; with an engine that has not said goodbye, once it is known what became of it."""
        said_goodbye, self.over = self.over, True
        if error is not None:
            why = repr(error)
            log("dispatch", "an engine can not be understood", level=logging.ERROR, replica=self.replica, why=why)
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionResetError("not welcome"))
            self.welcome.exception()  # who waited has it, if anybody did
        elif error is not None:
            self.give_up(ReplicaLeft(f"{self.replica}: it can not be understood"))
        elif self._calls and not said_goodbye:
            self._broken(self)

    def give_up(self, end: ReplicaLost | ReplicaLeft) -> None:
        """Nothing is sent from here on, and no answer comes, for this reason."""
        self.over = True
        for queue in {id(queue): queue for queue in self._calls.values()}.values():
            queue.put_nowait(end)
        self._calls.clear()

    def _answered(self, replies: tuple[Reply, ...]) -> None:
        """Each call gets its own, those that came together as one group; a reply that nobody waits for is nobody's."""
        groups: dict[int, tuple[asyncio.Queue[_Got], list[Reply]]] = {}
        for reply in replies:
            queue = self._calls.pop(reply.ticket, None)
            if queue is not None:
                groups.setdefault(id(queue), (queue, []))[1].append(reply)
        for queue, group in groups.values():
            queue.put_nowait(tuple(group))


async def _meet(wire: Wire, address: Address) -> None:
    """Connect, and wait until the engine takes tickets; raises `OSError` or `TimeoutError`."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().create_connection(lambda: wire, address.host, address.port)
            await wire.welcome
    except BaseException:
        wire.cut()
        raise


def _anew(end: ReplicaLost | ReplicaLeft) -> ReplicaLost | ReplicaLeft:
    """For one of those who are told: one value that all raise would hold on to what all of them had."""
    return type(end)(*end.args)
