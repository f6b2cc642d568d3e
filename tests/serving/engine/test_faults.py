"""Every effect of an engine fails once, at the first call, the second, ...: nothing leaks, and the next request works."""

import time
from contextlib import suppress
from itertools import count

import pytest

from serving.errors import REFUSALS, ServiceError
from serving.request import Desired, Result, Share
from serving.scheduler.batcher import Budget
from tests.serving.engine.bench import Bench, package
from tests.serving.jumping import HOUR, Jumping

SIZE = 8192
FAULTS = {
    "the disk": lambda: OSError(5, "Input/output error"),
    "an allocation": lambda: MemoryError("no memory"),
    "the device": lambda: RuntimeError("CUDA error: out of memory"),
}


class Struck:
    """Counts the calls of some methods, and raises at the one with the number `at`."""

    def __init__(self, at, fault):
        self.at, self.fault, self.calls = at, fault, []

    def wrap(self, owner, name):
        held = getattr(owner, name)

        def counted(*args, **kwargs):
            self.calls.append(name)
            if len(self.calls) == self.at:
                raise self.fault()
            made = held(*args, **kwargs)
            if name == "begin":
                self.wrap(made, "finish")
            return made

        object.__setattr__(owner, name, counted)

    @property
    def happened(self):
        return len(self.calls) >= self.at


class Life:
    """An engine with little room: loads, evictions, a pin, a batch of three, all by hand."""

    def __init__(self, folder, **other):
        self.bench = Bench(folder, device_bytes=4 * SIZE, budget=Budget(4, 512, 2 * SIZE), **other)
        self.refs = [self.bench.publish(f"x{i}", package(i)) for i in range(5)]

    def strike(self, struck):
        parts, cache = self.bench.parts, self.bench.engine._cache
        for owner, name in (
            (cache._loader, "_source"),
            (cache._loader, "_load"),
            (parts.device, "write"),
            (parts.device, "wipe"),
            (parts.forward, "begin"),
        ):
            struck.wrap(owner, name)

    def run(self):
        """A day of it; the outcome of every row."""
        engine = self.bench.engine
        engine.desire(Desired(1, (self.refs[0],), (("a", Share(2.0, SIZE, 4 * SIZE)),)))
        engine.reconcile()
        tickets = []
        for wanted in (self.refs[:2], self.refs[2:4], self.refs[1:5:3]):
            for ref in wanted:
                try:
                    engine.preload(ref)
                except ServiceError as error:
                    assert error.code in REFUSALS
            tickets += [self.bench.ticket(ref, head=ref) for ref in wanted]
            engine.submit(tickets[-len(wanted) :], self.bench.groups.append)
            self.turn(tickets)
        return [self.bench.replies.get(ticket.id) for ticket in tickets]

    def turn(self, tickets):
        for _ in range(8):
            self.bench.engine._loop.turn()
            for ticket in tickets:
                if ticket.id not in self.bench.replies:
                    with suppress(ServiceError):  # its rows are refused with the reason
                        self.bench.engine.preload(ticket.refs[0])

    def sound(self):
        engine = self.bench.engine
        report = engine.report()
        assert engine.check() == ()
        assert [entry.leases for entry in report.entries] == [0] * len(report.entries)
        assert (report.queued, report.running) == (0, 0)
        device = self.bench.device
        assert sum(slot.run.units for slot in device._slots.values()) * device._unit == report.used["device"]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_effect_fails_once_and_nothing_leaks(tmp_path, fault):
    at = 1
    while True:
        life = Life(tmp_path / f"{fault}{at}".replace(" ", ""))
        life.bench.engine._cache._books.ledger.patience = 0.0  # what failed may be tried again at once
        struck = Struck(at, FAULTS[fault])
        life.strike(struck)
        replies = life.run()
        life.sound()
        for reply in replies:
            assert isinstance(reply, Result) or (reply.code in REFUSALS and reply.detail)
        if not struck.happened:
            assert all(isinstance(reply, Result) for reply in replies)
            life.bench.engine.close()
            break
        again = life.bench.run(*(life.bench.ticket(ref, head=ref) for ref in life.refs[:2]))
        assert all(isinstance(reply, Result) for reply in again), struck.calls[at - 1]
        life.sound()
        life.bench.engine.close()
        at += 1
    assert at > 15, "the sweep saw sources, loads, copies, wipes and passes"
    assert {"_source", "_load", "write", "begin", "finish"} <= set(struck.calls)


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_that_jumps_at_any_look_leaks_nothing_and_the_next_request_works(tmp_path, by):
    for at in count(1):
        clock = Jumping(time.monotonic, at, by)
        life = Life(tmp_path / str(at), clock=clock)
        replies = life.run()
        jumped = clock.jumped
        life.sound()
        for reply in replies:
            assert isinstance(reply, Result) or (jumped and reply.code in REFUSALS and reply.detail)
        again = life.bench.run(*(life.bench.ticket(ref, head=ref) for ref in life.refs[:2]))
        assert all(isinstance(reply, Result) for reply in again) or jumped != clock.jumped, at
        life.sound()
        life.bench.engine.close()
        if not jumped:
            break
    assert at > 50, "the sweep saw the queue, the loads and the steps look at the clock"


def test_a_wipe_that_fails_is_tried_again_and_ends_no_thread(tmp_path):
    life = Life(tmp_path)
    bench, device = life.bench, life.bench.device
    wipe, failed = device.wipe, []

    def fail_first():
        if device.dirty and not failed:
            failed.append(True)
            raise RuntimeError("device busy")
        wipe()

    device.wipe = fail_first
    bench.engine._cache._books.ledger.patience = 0.0
    bench.engine.preload(life.refs[0])
    bench.engine.unload(life.refs[0])
    with bench.engine._cache._changed:
        assert bench.engine._cache._changed.wait_for(lambda: not device.dirty, 20)
    assert failed and not device.arena.any()
    bench.engine.preload(life.refs[1])
    assert bench.engine.check() == ()
    bench.engine.close()
