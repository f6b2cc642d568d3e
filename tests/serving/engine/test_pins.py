"""Pins become what is desired, and say what could not."""

import threading

import pytest

from serving.engine.pins import Pins
from serving.errors import DependencyFailed
from tests.serving.scheduler.machine import ref

X, Y, Z = (ref(name) for name in "xyz")


class Engine:
    """Pins on paper; `torn` can not be loaded."""

    def __init__(self):
        self.pinned, self.torn, self.tried = [], set(), []
        self.pins = Pins(self.pin, self.pinned.remove)

    def pin(self, wanted):
        self.tried.append(wanted)
        if wanted in self.torn:
            raise DependencyFailed(f"{wanted.name}: 900 bytes to pin, 100 of 1000 are free for pins")
        self.pinned.append(wanted)
        return "device"

    def become(self, *refs):
        self.pins.desire(refs)
        self.pins.reconcile()
        return self.pinned


@pytest.fixture
def engine():
    return Engine()


def test_an_engine_is_cold_until_it_was_told_and_everything_is_pinned_or_refused(engine):
    engine.pins.reconcile()
    assert not engine.pins.warm
    engine.pins.desire([X, Y])
    assert not engine.pins.warm
    engine.torn = {Y}
    engine.pins.reconcile()
    assert engine.pins.warm
    assert engine.pins.refused == {str(Y): "y: 900 bytes to pin, 100 of 1000 are free for pins"}


def test_nothing_to_pin_is_warm_once_told(engine):
    engine.pins.desire([])
    assert engine.pins.warm


def test_pins_follow_what_is_desired(engine):
    assert engine.become(X, Y) == [X, Y]
    assert engine.become(Y, Z) == [Y, Z]
    assert engine.become() == []


def test_what_is_pinned_is_not_pinned_again(engine):
    engine.become(X)
    engine.become(X)
    assert engine.tried == [X]


def test_what_was_refused_is_tried_again_and_told_once(engine, capfd, caplog):
    engine.torn = {X}
    engine.become(X, Y)
    engine.pins.reconcile()
    assert engine.tried.count(X) == 2
    assert sum("could not pin" in record.getMessage() for record in caplog.records) <= 1
    engine.torn = set()
    engine.pins.reconcile()
    assert engine.pinned == [Y, X]
    assert engine.pins.refused == {}


def test_a_refusal_of_what_is_not_desired_any_more_is_forgotten(engine):
    engine.torn = {X}
    engine.become(X)
    engine.pins.desire([])
    assert engine.pins.refused == {} and engine.pins.warm


def test_a_pin_by_hand_stays_until_the_next_word(engine):
    engine.become(X)
    engine.pin(Y)
    engine.pins.noted(Y, pinned=True)
    engine.pins.reconcile()
    assert engine.pinned == [X, Y]
    engine.pinned.remove(X)
    engine.pins.noted(X, pinned=False)
    engine.pins.reconcile()
    assert engine.pinned == [Y], "unpinned by hand: not pinned again for what is an old wish"
    assert engine.become(X) == [X]


def test_only_one_reconciles_at_a_time(engine):
    inside, go = threading.Event(), threading.Event()
    pin = engine.pin

    def slow(wanted):
        inside.set()
        assert go.wait(20)
        return pin(wanted)

    engine.pins._pin = slow
    engine.pins.desire([X])
    first = threading.Thread(target=engine.pins.reconcile)
    first.start()
    assert inside.wait(20)
    engine.pins.reconcile()  # returns at once
    assert engine.pinned == []
    engine.pins.desire([])  # meanwhile it is not wanted any more
    go.set()
    first.join(20)
    engine.pins.reconcile()
    assert engine.pinned == []
