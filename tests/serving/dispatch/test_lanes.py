"""Send buffers: each flight that leaves lands once, waited for or not."""

import asyncio
from dataclasses import dataclass, field

from serving.dispatch.flights import Flight, Request
from serving.dispatch.lanes import Lanes
from serving.dispatch.ports import ReplicaLeft, ReplicaLost
from serving.metrics import GatewayMetrics
from tests.serving.dispatch.worlds import Engines, row
from tests.serving.virtual_time import run


@dataclass
class Ground:
    """Who stands below the lanes, and notes what comes down."""

    port: object
    answered: list = field(default_factory=list)
    returned: list = field(default_factory=list)
    gone: list = field(default_factory=list)

    def __post_init__(self):
        self.lanes = Lanes(
            self.port,
            GatewayMetrics(),
            answered=lambda flight, reply: self.answered.append((flight.ticket.id, reply.replica)),
            returned=lambda flights, replica, end: self.returned.append(([f.ticket.id for f in flights], replica, end)),
            gone=self.gone.append,
        )

    def send(self, replica, *idents):
        loop = asyncio.get_running_loop()
        flights = [
            Flight(row(ident, n), loop.create_future(), loop.time() + 30, Request()) for n, ident in enumerate(idents)
        ]
        for flight in flights:
            self.lanes.put(replica, flight)
        return flights


def test_what_a_call_answered_and_what_it_did_not_are_told_apart():
    async def main():
        engines = Engines(delays={"late": 1.0}, deaths={"a": asyncio.get_running_loop().time() + 0.5})
        ground = Ground(engines)
        early, late = ground.send("a", "early", "late")
        await asyncio.sleep(0.2)
        assert ground.answered == [("early", "a")]
        assert not ground.lanes.aboard(early)
        assert ground.lanes.aboard(late)
        assert list(ground.lanes.under_way) == [late]
        await asyncio.sleep(1)
        assert ground.returned == [(["late"], "a", "lost")]
        assert ground.gone == ["a"]
        assert not list(ground.lanes.under_way)
        ground.lanes.check()

    run(main())


def test_a_flight_lands_though_nobody_waits_for_it():
    async def main():
        engines = Engines(delays={"t": 1.0}, deaths={"a": asyncio.get_running_loop().time() + 0.5})
        ground = Ground(engines)
        (flight,) = ground.send("a", "t")
        await asyncio.sleep(0.1)
        flight.answer.cancel()
        await asyncio.sleep(1)
        assert ground.returned == [(["t"], "a", "lost")]

    run(main())


def test_a_flight_that_is_answered_in_the_buffer_never_leaves():
    async def main():
        ground = Ground(Engines())
        one, _ = ground.send("a", "one", "two")
        one.answer.cancel()
        await asyncio.sleep(1)
        assert [ids for _, _, ids in ground.port.calls] == [["two"]]
        assert ground.answered == [("two", "a")]

    run(main())


def test_ends_are_told_by_what_ended_the_call():
    class Ending:
        def __init__(self, error):
            self.error = error

        async def call(self, replica, tickets):
            if self.error is not None:
                raise self.error
            return
            yield ()

    async def main():
        ends = {}
        for error in (ReplicaLost("a"), ReplicaLeft("a"), ValueError("bug"), None):
            ground = Ground(Ending(error))
            ground.send("a", "t")
            await asyncio.sleep(1)
            ends[type(error).__name__] = (*(end for _, _, end in ground.returned), *ground.gone)
        assert ends == {
            "ReplicaLost": ("lost", "a"),
            "ReplicaLeft": ("left", "a"),
            "ValueError": ("failed",),
            "NoneType": ("failed",),
        }

    run(main())


def test_a_reply_that_belongs_to_no_row_of_the_call_is_nobodys():
    class Doubling(Engines):
        async def call(self, replica, tickets):
            async for group in super().call(replica, tickets):
                yield (*group, *group, self.answer(replica, row("foreign", 9)))

    async def main():
        ground = Ground(Doubling())
        ground.send("a", "t")
        await asyncio.sleep(1)
        assert ground.answered == [("t", "a")]

    run(main())


def test_lanes_of_replicas_that_are_gone_are_forgotten_once_they_are_empty():
    async def main():
        ground = Ground(Engines(delays={"t": 1.0}))
        ground.send("a", "t")
        await asyncio.sleep(0.1)
        ground.lanes.keep(["b"])
        assert "a" in ground.lanes._lanes
        await asyncio.sleep(2)
        ground.lanes.keep(["b"])
        assert "a" not in ground.lanes._lanes

    run(main())
