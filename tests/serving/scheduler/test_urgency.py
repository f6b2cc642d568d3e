"""How urgently a thread wants the processor."""

import os
import sys
import threading

import pytest

from serving.scheduler import urgency
from serving.scheduler.urgency import LEAST, give_way


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if sys.platform == "linux" else None


def on_a_thread(work):
    told = []
    thread = threading.Thread(target=lambda: told.append(work()))
    thread.start()
    thread.join()
    return told[0]


def given_way(value):
    give_way(value)
    return niceness()


@pytest.mark.parametrize(("by", "then"), [(0, 0), (5, 5), (LEAST, LEAST)])
def test_a_thread_gives_way_and_the_others_keep_their_priority(by, then):
    before = niceness()
    assert on_a_thread(lambda: given_way(by)) in (min(LEAST, (before or 0) + then), None)
    assert niceness() == before


def test_a_thread_that_gave_way_can_give_way_again():
    def work():
        give_way(LEAST - 1)
        return given_way(7)

    assert on_a_thread(work) in (LEAST, None)


def test_threads_that_it_starts_give_way_as_well():
    def work():
        give_way(LEAST)
        return on_a_thread(niceness)

    assert on_a_thread(work) in (LEAST, None)


def test_where_threads_have_no_priority_nothing_happens(monkeypatch):
    monkeypatch.setattr(urgency.sys, "platform", "darwin")
    monkeypatch.setattr(urgency.os, "setpriority", lambda *_: 1 / 0)
    give_way(LEAST)
