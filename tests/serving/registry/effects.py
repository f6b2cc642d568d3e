"""Every effect on the world outside of the process, counted, so that a test can strike at the n-th."""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import event, exc

DISK = (
    *((os, name) for name in ("open", "write", "fsync", "link", "replace", "rename", "mkdir", "unlink")),
    (fcntl, "flock"),
)


class Reading:
    """A file that was opened to be read; every read is counted."""

    def __init__(self, file, count: Callable[[str], None]) -> None:
        self._file = file
        self._count = count

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *fault):
        return self._file.__exit__(*fault)

    def read(self, *size):
        self._count("read")
        return self._file.read(*size)


class Counted:
    """Counts effects: the one number `at` (from 1) calls `strike(name)`; `seen` names all that came."""

    def __init__(self, strike: Callable[[str], None], at: int) -> None:
        self._strike = strike
        self._at = at
        self._undo: list[Callable[[], None]] = []
        self.seen: list[str] = []

    def __exit__(self, *_):
        for undo in reversed(self._undo):
            undo()

    def _wrap(self, owner, name):
        held = getattr(owner, name)

        def counted(*args, **kwargs):
            self._count(name)
            return held(*args, **kwargs)

        setattr(owner, name, counted)
        self._undo.append(lambda: setattr(owner, name, held))

    def _wrap_reading(self):
        held = Path.open

        def opened(path, *args, **kwargs):
            self._count("open")
            return Reading(held(path, *args, **kwargs), self._count)

        Path.open = opened
        self._undo.append(lambda: setattr(Path, "open", held))

    def _listen(self, engine):
        for name in ("before_cursor_execute", "commit"):
            listener = self._listener(name)
            event.listen(engine, name, listener)
            self._undo.append(lambda name=name, listener=listener: event.remove(engine, name, listener))

    def _listener(self, name):
        return lambda *_: self._count(name)

    def _count(self, name):
        self.seen.append(name)
        if len(self.seen) == self._at:
            self._strike(name)


class Effects(Counted):
    """A context that counts every effect of a publish."""

    def __init__(self, registry, strike: Callable[[str], None], at: int) -> None:
        super().__init__(strike, at)
        self._registry = registry

    def __enter__(self):
        for module, name in DISK:
            self._wrap(module, name)
        self._wrap_reading()
        self._wrap(self._registry.checker, "check")
        self._wrap(self._registry.publisher, "_nudge")
        self._listen(self._registry.database._engine)
        return self


class Statements(Counted):
    """A context that counts every statement and commit of a database; with `late`, a strike at a commit comes after it.

    That is an answer which is lost on its way: the server has done what the client believes to have failed.
    """

    def __init__(self, database, strike: Callable[[str], None], at: int, *, late: bool = False) -> None:
        super().__init__(strike, at)
        self._engine = database._engine
        self._late = late

    def __enter__(self):
        if not self._late:
            self._listen(self._engine)
            return self
        dialect = self._engine.dialect
        held = dialect.do_commit

        def committed(connection):
            held(connection)
            self._count("commit")

        dialect.do_commit = committed
        self._undo.append(lambda: vars(dialect).pop("do_commit"))
        return self


def fail(name: str) -> None:
    """The fault that this effect can have."""
    if name in ("before_cursor_execute", "commit"):
        raise exc.OperationalError("", {}, sqlite3.OperationalError("disk I/O error"))
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def die(name: str) -> None:
    """The end of the process, without a chance to clean up."""
    os.kill(os.getpid(), 9)
