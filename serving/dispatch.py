"""From gateway to engine: a send buffer per replica, many tickets to a call, replies in groups, and retries.

    submit -> Affinity.choose -> lane of that replica -> one streaming call for all that waits -> a future per ticket

A call costs about the same whatever it carries, so tickets that arrive together travel together. A call leaves at once
while few are open; with many open it waits a moment for company. Waiting for room is the engine's business, not ours.
A lost replica costs its unanswered tickets a second journey, nothing else.
"""

import asyncio
import contextvars
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from serving.affinity import Affinity, Key
from serving.logs import log
from serving.metrics import GatewayMetrics
from serving.request import Refusal, Reply, Ticket

OPEN_CALLS = 8  # calls to one replica that leave without waiting for company
WINDOW_S = 0.002  # how long a call waits for company when more are open
TICKETS_PER_CALL = 256  # bounds the size of one message
ATTEMPTS = 3  # journeys of one ticket, the first included: a row that kills its replica must not kill them all


class ReplicaLost(Exception):
    """The replica died or left while a call was on its way; what it did not answer may be sent again."""


class EnginePort(Protocol):
    """The engines as `Dispatcher` sees them. Implemented by `serving.routing.EngineCalls`."""

    def call(self, replica: str, tickets: Sequence[Ticket]) -> AsyncIterator[tuple[Reply, ...]]:
        """Hand tickets to one replica; yields the replies in the groups in which they finish. Raises `ReplicaLost`."""
        ...

    async def cancel(self, replica: str, ids: Sequence[str]) -> None:
        """Tell the replica that nobody waits for these tickets any more. Raises `ReplicaLost`."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """One ticket on its way: its future, its deadline (seconds on the loop's clock) and its journeys so far."""

    ticket: Ticket
    answer: asyncio.Future[Reply]
    deadline: float
    replica: str | None = None  # where it was sent last
    tried: list[str] = field(default_factory=list)  # replicas that lost it


@dataclass(slots=True, eq=False)
class _Lane:
    """The send buffer of one replica, how many calls to it are open, and the timer of the next one."""

    buffer: list[_Flight] = field(default_factory=list)
    open: int = 0
    timer: asyncio.Handle | None = None


class Dispatcher:
    """Implements `serving.api.services.Submit` over an `EnginePort`; lives on one event loop.

    `name` stands in the refusals made here; at most `max_flights` tickets are on their way, more are refused.
    """

    def __init__(self, port: EnginePort, metrics: GatewayMetrics, *, name: str, max_flights: int) -> None:
        self._port = port
        self._metrics = metrics
        self._name = name
        self._max_flights = max_flights
        self._loop = asyncio.get_running_loop()
        self._affinity = Affinity(self._loop.time)
        self._lanes: dict[str, _Lane] = {}
        self._flights: dict[str, _Flight] = {}
        self._homeless: list[_Flight] = []  # no replica is alive
        self._waiting: Counter[str] = Counter()  # rows in a lane or on their way, by replica
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def replicas(self) -> tuple[str, ...]:
        """The replicas believed alive."""
        return self._affinity.replicas

    def observe(self, holdings: Mapping[str, frozenset[Key]]) -> None:
        """Take over who is alive and what each replica holds; tickets that found no replica are sent now."""
        self._affinity.observe(holdings)
        self._lanes = {name: lane for name, lane in self._lanes.items() if name in holdings or lane.open or lane.timer}
        homeless, self._homeless = self._homeless, []
        for flight in homeless:
            self._place(flight)

    async def submit(self, tickets: Sequence[Ticket], timeout_s: float) -> Sequence[Reply]:
        """One reply per ticket, in order; after `timeout_s` what is unanswered is refused as too late.

        Cancelling this call cancels the tickets in the engines. Raises `ValueError` for an id that is on its way.
        """
        refusal = self._full(len(tickets))
        if refusal is not None:
            return [replace(refusal, ticket=ticket.id) for ticket in tickets]
        flights = self._admit(tickets, self._loop.time() + timeout_s)
        try:
            if flights:
                await asyncio.wait([flight.answer for flight in flights], timeout=timeout_s)
        finally:
            self._abandon(flights)
        return [flight.answer.result() for flight in flights]

    async def close(self) -> None:
        """Refuse what is on its way and end all calls."""
        self._closed = True
        for flight in list(self._flights.values()):
            self._settle(self._refusal(flight, "not_ready", "the gateway is shutting down"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self) -> None:
        """Assert that every flight is unanswered and counted exactly once."""
        assert all(not flight.answer.done() for flight in self._flights.values()), "answered but still on its way"
        placed = Counter(flight.replica for flight in self._flights.values() if flight.replica is not None)
        assert placed == +self._waiting, f"{placed} are placed, {self._waiting} are counted"
        idle = {flight.ticket.id for flight in self._homeless if not flight.answer.done()}
        assert idle == {key for key, flight in self._flights.items() if flight.replica is None}, "a ticket is nowhere"
        for replica, lane in self._lanes.items():
            assert lane.open >= 0, f"{replica} has {lane.open} open calls"
            assert lane.timer is not None or not lane.buffer, f"nothing will send the buffer of {replica}"

    def _full(self, rows: int) -> Refusal | None:
        if self._closed:
            return Refusal("", "not_ready", "the gateway is shutting down", self._name)
        if len(self._flights) + rows > self._max_flights:
            detail = f"{len(self._flights)} rows are on their way and {self._max_flights} may be; try again"
            return Refusal("", "overloaded", detail, self._name, retry_after=1.0)
        return None

    def _admit(self, tickets: Sequence[Ticket], deadline: float) -> list[_Flight]:
        ids = {ticket.id for ticket in tickets}
        if len(ids) < len(tickets) or not ids.isdisjoint(self._flights):
            raise ValueError("a ticket with one of these ids is on its way already")
        flights = [_Flight(ticket, self._loop.create_future(), deadline) for ticket in tickets]
        self._flights.update((flight.ticket.id, flight) for flight in flights)
        for flight in flights:
            self._place(flight)
        return flights

    def _place(self, flight: _Flight) -> None:
        """Put an unanswered flight into the lane of the best replica, or keep it until one is there."""
        if flight.answer.done():
            return
        replica = self._affinity.choose(flight.ticket, self._waiting, avoid=flight.tried)
        flight.replica = replica
        if replica is None:
            self._homeless.append(flight)
            return
        self._waiting[replica] += 1
        self._affinity.expect(replica, flight.ticket)
        lane = self._lanes.setdefault(replica, _Lane())
        lane.buffer.append(flight)
        self._arm(replica, lane)

    def _arm(self, replica: str, lane: _Lane) -> None:
        """See to it that the lane's buffer leaves: at the end of this turn of the loop, or after the window."""
        if lane.timer is None and lane.buffer:
            if lane.open < OPEN_CALLS:
                lane.timer = self._loop.call_soon(self._send, replica, lane)
            else:
                lane.timer = self._loop.call_later(WINDOW_S, self._send, replica, lane)

    def _send(self, replica: str, lane: _Lane) -> None:
        lane.timer = None
        waiting = [flight for flight in lane.buffer if not flight.answer.done()]
        load, lane.buffer = waiting[:TICKETS_PER_CALL], waiting[TICKETS_PER_CALL:]
        if load:
            lane.open += 1
            self._metrics.calls.inc()
            self._start(self._carry(replica, lane, load))
        self._arm(replica, lane)

    async def _carry(self, replica: str, lane: _Lane, load: list[_Flight]) -> None:
        """One call, from its tickets to the last group of its replies."""
        now = self._loop.time()
        tickets = [replace(f.ticket, deadline_ms=max(0.0, (f.deadline - now) * 1000)) for f in load]
        try:
            async for group in self._port.call(replica, tickets):
                for reply in group:
                    self._settle(reply)
        except ReplicaLost as error:
            log("dispatch", "a replica is lost", level=logging.WARNING, replica=replica, reason=str(error))
            self._affinity.lose(replica)
        except Exception:  # a bug in the port or the engine's shell: the rows must still be answered
            log("dispatch", "a call failed", level=logging.ERROR, error=True, replica=replica)
        finally:
            lane.open -= 1
            if lane.timer is not None and lane.open < OPEN_CALLS:
                lane.timer.cancel()
                lane.timer = None
            self._arm(replica, lane)
            if not self._closed:
                for flight in load:
                    self._again(flight, replica)

    def _again(self, flight: _Flight, replica: str) -> None:
        """Send a flight that the call left unanswered to another replica, unless it travelled enough."""
        if flight.answer.done() or flight.replica != replica:
            return
        self._waiting[replica] -= 1
        flight.replica = None
        flight.tried.append(replica)
        if len(flight.tried) >= ATTEMPTS:
            self._settle(self._refusal(flight, "not_ready", f"{ATTEMPTS} engine replicas failed on the way"))
        else:
            self._metrics.retries.labels("replica_lost").inc()
            self._place(flight)

    def _settle(self, reply: Reply) -> None:
        """Hand a reply to its flight; a second reply, or one that nobody waits for, is nobody's."""
        flight = self._flights.get(reply.ticket)
        if flight is None:
            return
        if isinstance(reply, Refusal) and reply.code == "not_ready" and reply.replica != self._name:
            return  # a replica that is leaving: `_again` sends the row elsewhere when the call ends
        del self._flights[reply.ticket]
        if flight.replica is not None:
            self._waiting[flight.replica] -= 1
        flight.answer.set_result(reply)

    def _abandon(self, flights: Sequence[_Flight]) -> None:
        """Refuse what is still unanswered, and tell the replicas that nobody waits for it any more."""
        left: dict[str, list[str]] = {}
        for flight in flights:
            if not flight.answer.done():
                if flight.replica is not None:
                    left.setdefault(flight.replica, []).append(flight.ticket.id)
                self._settle(self._refusal(flight, "deadline_exceeded", "the deadline passed before the row was done"))
        for replica, ids in left.items():
            self._metrics.cancelled.inc(len(ids))
            self._start(self._cancel(replica, ids))

    async def _cancel(self, replica: str, ids: list[str]) -> None:
        try:
            await self._port.cancel(replica, ids)
        except ReplicaLost:
            self._affinity.lose(replica)
        except Exception:  # the rows are refused already; a cancel that fails costs the engine work, nobody an answer
            log("dispatch", "a cancel failed", level=logging.ERROR, error=True, replica=replica, rows=len(ids))

    def _refusal(self, flight: _Flight, code: str, detail: str) -> Refusal:
        return Refusal(flight.ticket.id, code, detail, self._name)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # An empty context: a call carries the rows of many requests, and Ray cancels the calls that it finds in the
        # context of a request whose client went away.
        task = self._loop.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
