"""Every effect of a publish on the world outside of the process, counted, so that a test can strike at the n-th."""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable

from sqlalchemy import event, exc

DISK = ((os, "open"), (os, "write"), (os, "fsync"), (os, "link"), (os, "mkdir"), (os, "unlink"), (fcntl, "flock"))


class Effects:
    """A context in which the effect number `at` (from 1) calls `strike(name)`; `seen` names all that came."""

    def __init__(self, registry, strike: Callable[[str], None], at: int) -> None:
        self._registry = registry
        self._strike = strike
        self._at = at
        self._undo: list[Callable[[], None]] = []
        self.seen: list[str] = []

    def __enter__(self):
        for module, name in DISK:
            self._wrap(module, name)
        self._wrap(self._registry.publisher._checker, "check")
        self._wrap(self._registry.publisher, "_nudge")
        engine = self._registry.database._engine
        for name in ("before_cursor_execute", "commit"):
            listener = self._listener(name)
            event.listen(engine, name, listener)
            self._undo.append(lambda name=name, listener=listener: event.remove(engine, name, listener))
        return self

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

    def _listener(self, name):
        return lambda *_: self._count(name)

    def _count(self, name):
        self.seen.append(name)
        if len(self.seen) == self._at:
            self._strike(name)


def fail(name: str) -> None:
    """The fault that this effect can have."""
    if name in ("before_cursor_execute", "commit"):
        raise exc.OperationalError("", {}, sqlite3.OperationalError("disk I/O error"))
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def die(name: str) -> None:
    """The end of the process, without a chance to clean up."""
    os.kill(os.getpid(), 9)
