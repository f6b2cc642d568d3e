"""What a killed service leaves is ended by its guard, and nothing else is."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.guard import MARK, guarded

SLEEPER = "import time; time.sleep(600)"
SERVICE = f"""
import os, subprocess, sys, time
from serving.guard import guarded
with guarded() as variables:
    child = subprocess.Popen([sys.executable, "-c", "{SLEEPER}"], env=os.environ | variables, start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(600)
"""


def ends(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 60)[0])


def guard_of(pid: int) -> int:
    """The process that watches over this one."""
    found = list[int]()
    while not found:  # it is there, but for a moment without a command line: that comes a little after the program
        found = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if (entry / "stat").exists()
            and f" {pid} " in (entry / "stat").read_text().rpartition(")")[2][:20]
            and "serving.guard" in (entry / "cmdline").read_text()
        ]
    (guard,) = found
    return guard


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_service_that_is_killed_has_started_ends_and_what_another_has_does_not(number):
    words = [sys.executable, "-c", SERVICE]
    service = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    other = subprocess.Popen([sys.executable, "-c", SLEEPER], env=os.environ | {MARK: "another"})
    with service.stdout as told:
        child = os.pidfd_open(int(told.readline()))
        service.send_signal(number)
        service.wait()
        assert ends(child)
        os.close(child)
    assert other.poll() is None
    other.kill()
    other.wait()


def test_a_signal_to_everybody_leaves_the_guard_until_the_service_is_gone():
    with guarded() as variables:
        child = subprocess.Popen([sys.executable, "-c", SLEEPER], env=os.environ | variables)
        guard = guard_of(os.getpid())
        while int(ignored(guard), 16) & (1 << signal.SIGTERM - 1) == 0:
            assert Path(f"/proc/{guard}").exists()
        os.kill(guard, signal.SIGTERM)
        assert child.poll() is None
    assert child.wait() == -signal.SIGKILL
    assert not Path(f"/proc/{guard}").exists()


def ignored(pid: int) -> str:
    """The mask of the signals that a process ignores."""
    return Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0]
