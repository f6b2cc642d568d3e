"""Every touch of the disk, counted, so that a test can have the n-th one fail."""

import fcntl
import io
import os

import pytest

DISK = (
    *((os, name) for name in ("open", "write", "fsync", "link", "mkdir", "unlink", "replace", "utime")),
    (fcntl, "flock"),
    (io, "open"),
)


class Disk:
    """A context in which the effect number `at` (from 1) raises an `OSError`; `seen` names all that came."""

    def __init__(self, at: int, code: int) -> None:
        self._at = at
        self._code = code
        self._patch = pytest.MonkeyPatch()
        self.seen: list[str] = []

    @property
    def failed(self) -> bool:
        return len(self.seen) >= self._at

    def __enter__(self):
        for owner, name in DISK:
            self._patch.setattr(owner, name, self._counted(getattr(owner, name), name))
        return self

    def __exit__(self, *_):
        self._patch.undo()

    def _counted(self, held, name):
        def call(*args, **kwargs):
            self.seen.append(name)
            if len(self.seen) == self._at:
                raise OSError(self._code, os.strerror(self._code))
            return held(*args, **kwargs)

        return call
