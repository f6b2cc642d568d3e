"""Work that gives way: what a starting engine computes takes nothing from those that answer on the same machine."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

LEAST = 19  # the least urgent priority that there is


def yielding(work: Callable[[], T]) -> T:
    """What `work` returns or raises, done on a thread of its own that runs when nobody else wants the processor.

    Threads that `work` starts are as little urgent as it is, for ever: whoever answers requests must be started later.
    The priority of a thread can be given up but not taken back by a process without privileges, hence the thread. Only
    Linux has a priority for each; elsewhere the work is done as it is.
    """
    if sys.platform != "linux":
        return work()
    done: Future[T] = Future()

    def run() -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST)
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="yielding")
    thread.start()
    thread.join()
    return done.result()
