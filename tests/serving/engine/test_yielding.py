"""Work that gives way to everything else, and what comes of it."""

import os
import sys
import threading

import pytest

from serving.engine import yielding as module
from serving.engine.yielding import LEAST, yielding

linux = sys.platform == "linux"


def priority():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) if linux else LEAST


def test_the_work_runs_at_the_least_urgent_priority_and_the_caller_keeps_its_own():
    before = priority()
    assert yielding(priority) == LEAST
    assert priority() == before


def test_what_the_work_raises_reaches_the_caller():
    with pytest.raises(KeyError, match="backbone"):
        yielding(lambda: {}["backbone"])


def test_even_an_exit_reaches_the_caller():
    with pytest.raises(SystemExit, match="7"):
        yielding(lambda: sys.exit(7))


def test_threads_that_the_work_starts_are_as_little_urgent():
    told = []

    def work():
        thread = threading.Thread(target=lambda: told.append(priority()))
        thread.start()
        thread.join()

    yielding(work)
    assert told == [LEAST]


def test_nothing_is_left_running():
    before = set(threading.enumerate())
    yielding(priority)
    assert set(threading.enumerate()) == before


def test_where_threads_have_no_priority_the_caller_does_the_work(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert yielding(threading.current_thread) is threading.current_thread()
