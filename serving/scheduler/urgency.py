"""How urgently a thread wants the processor, told to the operating system."""

import os
import sys
import threading

LEAST = 19  # the niceness of the least urgent threads that there are
FORWARD = 5  # steps by which forward passes give way: who speaks with clients needs the processor for less, but at once


def give_way(by: int) -> None:
    """Make this thread, and those it starts from now on, less urgent by so many steps of niceness.

    A process without privileges can give priority up but not take it back. Only Linux has one for each thread; elsewhere
    nothing is done.
    """
    if sys.platform == "linux":
        this = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, this, min(LEAST, os.getpriority(os.PRIO_PROCESS, this) + by))
