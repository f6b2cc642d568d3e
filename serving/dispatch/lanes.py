"""The send buffers of all replicas, and the calls in which they leave.

A call leaves at once while few are open; with many open it waits a moment for company.
"""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, Literal

from serving.dispatch.flights import Flight, Lane
from serving.dispatch.ports import EnginePort, ReplicaLeft, ReplicaLost
from serving.logs import log
from serving.metrics import GatewayMetrics
from serving.request import Reply, Ticket

OPEN_CALLS = 8  # calls to one replica that leave without waiting for company
WINDOW_S = 0.002  # how long a call waits for company when more are open
TICKETS_PER_CALL = 256  # bounds the size of one message

End = Literal["lost", "left", "failed"]  # how a call ended for what it did not answer


class Lanes:
    """Brings flights to replicas; hands every reply to `answered`, and what a call did not answer to `returned`.

    So each flight that leaves lands once, whether its caller still waits for it or not.
    """

    def __init__(
        self,
        port: EnginePort,
        metrics: GatewayMetrics,
        *,
        answered: Callable[[Flight, Reply], None],
        returned: Callable[[Sequence[Flight], str, End], None],
        gone: Callable[[str], None],
    ) -> None:
        self._port = port
        self._metrics = metrics
        self._answered = answered
        self._returned = returned
        self._gone = gone  # told of a replica that turned out not to be there
        self._loop = asyncio.get_running_loop()
        self._lanes: dict[str, Lane] = {}
        self._aboard: dict[str, Flight] = {}  # in an open call and not answered by the replica, by the ticket's id
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def replicas(self) -> AbstractSet[str]:
        """Replicas that flights were sent to, and still may be, or from which some have not landed."""
        return self._lanes.keys()

    @property
    def under_way(self) -> Iterator[Flight]:
        """Every flight that is on board of a replica, or about to be."""
        yield from self._aboard.values()
        for lane in self._lanes.values():
            yield from lane.buffer

    def aboard(self, flight: Flight) -> bool:
        """Whether a call has the flight on board, so that it will land."""
        return self._aboard.get(flight.ticket.id) is flight

    def put(self, replica: str, flight: Flight) -> None:
        """Have a flight leave for a replica."""
        lane = self._lanes.setdefault(replica, Lane())
        lane.buffer.append(flight)
        self._arm(replica, lane)

    def keep(self, replicas: Collection[str]) -> None:
        """Forget the lanes of other replicas, where nothing is under way in them."""
        self._lanes = {name: lane for name, lane in self._lanes.items() if name in replicas or lane.open or lane.timer}

    def cancel(self, replica: str, ids: Sequence[str]) -> None:
        """Tell a replica to refuse these tickets where they wait there; they land as others do."""
        self.start(self._cancel(replica, ids))

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a piece of work that belongs to no request."""
        # An empty context: what is started here belongs to the rows of many requests, and Ray cancels the calls that it
        # finds in the context of a request whose client went away.
        task = self._loop.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all calls."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check(self) -> None:
        """Assert that no buffer is forgotten."""
        for replica, lane in self._lanes.items():
            assert lane.open >= 0, f"{replica} has {lane.open} open calls"
            assert lane.timer is not None or not lane.buffer, f"nothing will send the buffer of {replica}"

    def _arm(self, replica: str, lane: Lane) -> None:
        """See to it that the lane's buffer leaves: at the end of this turn of the loop, or after the window."""
        if lane.timer is None and lane.buffer:
            if lane.open < OPEN_CALLS:
                lane.timer = self._loop.call_soon(self._send, replica, lane)
            else:
                lane.timer = self._loop.call_later(WINDOW_S, self._send, replica, lane)

    def _send(self, replica: str, lane: Lane) -> None:
        lane.timer = None
        waiting = [flight for flight in lane.buffer if not flight.answer.done()]
        load, lane.buffer = waiting[:TICKETS_PER_CALL], waiting[TICKETS_PER_CALL:]
        if load:
            lane.open += 1
            self._metrics.calls.inc()
            self._aboard.update((flight.ticket.id, flight) for flight in load)
            self.start(self._carry(replica, lane, load))
        self._arm(replica, lane)

    async def _carry(self, replica: str, lane: Lane, load: list[Flight]) -> None:
        """One call, from its tickets to the last group of its replies."""
        now = self._loop.time()
        tickets = [_due(flight, now) for flight in load]
        left = {flight.ticket.id: flight for flight in load}
        end: End = "failed"
        try:
            async for group in self._port.call(replica, tickets):
                for reply in group:
                    flight = left.pop(reply.ticket, None)
                    if flight is not None:  # a second reply is nobody's
                        self._land(flight)
                        self._answered(flight, reply)
        except (ReplicaLost, ReplicaLeft) as error:
            end = "lost" if isinstance(error, ReplicaLost) else "left"
            log("dispatch", f"a replica {end}", level=logging.WARNING, replica=replica, reason=str(error))
            self._gone(replica)
        except Exception:  # a bug in the port or the engine's shell: the rows must still be answered
            log("dispatch", "a call failed", level=logging.ERROR, error=True, replica=replica)
        finally:
            lane.open -= 1
            if lane.timer is not None and lane.open < OPEN_CALLS:
                lane.timer.cancel()
                lane.timer = None
            self._arm(replica, lane)
            if not self._closed:
                for flight in left.values():
                    self._land(flight)
                self._returned(tuple(left.values()), replica, end)

    def _land(self, flight: Flight) -> None:
        if self._aboard.get(flight.ticket.id) is flight:
            del self._aboard[flight.ticket.id]

    async def _cancel(self, replica: str, ids: Sequence[str]) -> None:
        try:
            await self._port.cancel(replica, ids)
        except (ReplicaLost, ReplicaLeft):
            self._gone(replica)
        except Exception:  # a cancel that fails costs the engine work and suspects time, but nobody an answer
            log("dispatch", "a cancel failed", level=logging.ERROR, error=True, replica=replica, rows=len(ids))


def _due(flight: Flight, now: float) -> Ticket:
    """The ticket with the time that is left; one that waited for less than a millisecond is worth no copy."""
    left_ms = max(0.0, (flight.deadline - now) * 1000)
    return (
        flight.ticket if 0 <= flight.ticket.deadline_ms - left_ms < 1 else replace(flight.ticket, deadline_ms=left_ms)
    )
