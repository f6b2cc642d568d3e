"""Cache folders of engine processes."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.engine.folder import claim


def test_each_engine_gets_a_folder_of_its_own(tmp_path):
    one, other = claim(tmp_path / "cache"), claim(tmp_path / "cache")
    assert one.folder != other.folder
    one.release()
    other.release()


def test_a_released_folder_is_taken_again(tmp_path):
    first = claim(tmp_path)
    first.release()
    again = claim(tmp_path)
    assert again.folder == first.folder
    again.release()


def test_a_process_that_was_killed_leaves_its_folder_to_the_next(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path; from serving.engine.folder import claim;"
        "print(claim(Path(sys.argv[1])).folder); sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    after = claim(tmp_path)
    assert str(after.folder) == dead.stdout.strip()
    after.release()


def test_a_disk_that_refuses_the_lock_is_told_and_nothing_stays_open(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        claim(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    monkeypatch.undo()
    again = claim(tmp_path)
    assert again.folder == tmp_path / "0"
    again.release()
