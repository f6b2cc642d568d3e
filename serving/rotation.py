"""A log file that starts anew when it is full, and loses no line while several processes write to it.

Every line is one `write` to a file opened for appending, so lines of two processes never mix. The file is renamed by
one process at a time, under a lock; a line that another process writes meanwhile lands in the renamed file.
"""

import fcntl
import io
import os
import threading
from pathlib import Path

MODE = 0o640


class RotatingFile(io.TextIOBase):
    """Appends to `path`; at `max_bytes` it becomes `path.1`, that one `path.2`, and so on up to `path.<keep>`.

    A file is larger than `max_bytes` only if its one line is.
    """

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        if max_bytes < 1 or keep < 1:
            raise ValueError(f"a log file of {max_bytes} bytes, {keep} kept: both are at least 1")
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._guard = threading.Lock()
        self._descriptor = self._open()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, text: str) -> int:
        """Append one or more whole lines; raises `OSError` where the disk takes no more."""
        data = text.encode("utf-8", "backslashreplace")
        with self._guard:
            while self._full(len(data)):
                self._rotate()
            while data:
                data = data[os.write(self._descriptor, data) :]
        return len(text)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._guard:
            if not self.closed:
                os.close(self._descriptor)
            super().close()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)

    def _full(self, coming: int) -> bool:
        self._follow()
        size = os.fstat(self._descriptor).st_size
        return size > 0 and size + coming > self._max_bytes

    def _follow(self) -> None:
        """Open the file that is called `path` now, if another process renamed ours, or somebody removed it."""
        held = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            fresh = self._open()
            os.close(self._descriptor)
            self._descriptor = fresh

    def _rotate(self) -> None:
        """Rename the files, unless another process has just done so."""
        lock = os.open(self._numbered("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = os.fstat(self._descriptor).st_ino
            self._follow()
            if os.fstat(self._descriptor).st_ino != before:
                return
            for number in range(self._keep - 1, 0, -1):
                held = self._numbered(number)
                if held.exists():
                    held.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))
            self._follow()
        finally:
            os.close(lock)

    def _numbered(self, suffix: int | str) -> Path:
        return self._path.with_name(f"{self._path.name}.{suffix}")
