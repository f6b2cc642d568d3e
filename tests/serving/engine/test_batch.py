"""A batch of an engine: what it holds from its beginning to its end."""

import random
import threading

import numpy as np
import pytest

from serving.request import Result
from serving.scheduler.batcher import Budget
from tests.adapters import builders
from tests.serving.engine.bench import Bench, Late, outputs, package

WAIT = 60  # seconds until a test gives up
SIZE = 8192  # bytes of `package(seed)` on the device


@pytest.fixture
def make(tmp_path):
    made = []

    def bench(**options):
        made.append(Bench(tmp_path / str(len(made)), **options))
        return made[-1]

    yield bench
    for one in made:
        assert one.engine.check() == ()
        one.engine.close()


def late(make, **options):
    return make(forward=Late(builders.backbone("bert")), **options)


def begun(bench, *tickets):
    """Tickets whose batch has begun and is not finished."""
    for ref in {ref for ticket in tickets for ref in ticket.refs}:
        bench.engine.preload(ref)
    bench.engine.submit(tickets, bench.groups.append)
    assert bench.engine._loop.turn()
    assert bench.replies == {}


def test_adapters_stay_until_the_batch_that_began_with_them_is_finished(make):
    bench = late(make)
    ref = bench.publish("x", package(1))
    ticket = bench.ticket(ref, head=ref)
    begun(bench, ticket)
    assert bench.engine.unload(ref) == "in use"
    bench.engine._loop.turn()
    assert np.allclose(outputs([bench.replies[ticket.id]])[0], bench.alone(ticket), atol=1e-5)
    assert bench.engine.unload(ref) == "unloaded"


def test_a_device_tells_how_long_its_batch_took(make):
    bench = late(make)
    ref = bench.publish("x", package(1))
    (reply,) = bench.run(bench.ticket(ref, head=ref))
    assert reply.timing.forward == 250.0


def test_what_the_forward_pass_raises_leaves_no_lease_behind(make, monkeypatch):
    bench = late(make)
    ref = bench.publish("x", package(1))
    monkeypatch.setattr(bench.parts.forward, "begin", lambda rows: 1 / 0)
    monkeypatch.setattr("serving.engine.engine.computes", lambda *_: True)
    (reply,) = bench.run(bench.ticket(ref, head=ref))
    assert reply.code == "engine_failed"
    assert bench.engine.unload(ref) == "unloaded"


def test_neither_does_what_it_raises_when_it_is_finished(make, monkeypatch):
    bench = late(make)
    ref = bench.publish("x", package(1))
    begun(bench, bench.ticket(ref, head=ref))
    monkeypatch.setattr("tests.serving.engine.bench.LatePass.finish", lambda self: 1 / 0)
    monkeypatch.setattr("serving.engine.engine.computes", lambda *_: True)
    bench.engine._loop.turn()
    assert [reply.code for reply in bench.replies.values()] == ["engine_failed"]
    assert bench.engine.unload(ref) == "unloaded"


def test_many_adapters_in_little_room_are_answered_right_though_every_batch_is_read_as_late_as_it_may_be(make):
    bench = late(make, device_bytes=6 * SIZE, budget=Budget(6, 512, 2 * SIZE))
    refs = [bench.publish(f"x{i}", package(i)) for i in range(16)]
    dice = random.Random(11)
    tickets = [bench.ticket(ref, head=ref, length=dice.randint(2, 20)) for ref in dice.choices(refs, k=150)]
    done = threading.Semaphore(0)

    def sink(group):
        bench.groups.append(group)
        done.release(len(group))

    bench.engine.start()
    for start in range(0, len(tickets), 15):
        bench.engine.submit(tickets[start : start + 15], sink)
    assert all(done.acquire(timeout=WAIT) for _ in tickets)
    for ticket in tickets:
        assert isinstance(bench.replies[ticket.id], Result)
        assert np.allclose(bench.replies[ticket.id].output, bench.alone(ticket), atol=1e-5)
    assert bench.parts.forward.most == 2
    assert bench.engine.report().counters["evictions_device"] > 0
