"""Verified copies of remote blobs in a folder of this machine, under a byte budget: each is brought once, however many ask.

Processes share the folder. A copy is hashed whenever it is handed out, and dropped and brought again where it rotted.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.files import digest_of, fsync_folder
from serving.registry.blobs.refusals import storing

Bring = Callable[[str, Path], None]  # a verified copy of a digest, whole or not there
_GRACE_S = 60.0  # what was handed out is opened by then
_COPIES = "[0-9a-f]" * 64


class Downloads:
    """Copies by digest; any thread may ask."""

    def __init__(self, folder: Path, budget: int, bring: Bring, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._budget = budget
        self._bring = bring
        self._clock = clock
        self._lock = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}  # digest -> whose turn it is, how many want one
        with storing():
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the copy of a digest lies, or would lie."""
        return self._folder / digest.removeprefix("sha256:")

    def get(self, digest: str) -> Path:
        """The copy of a digest; raises as `bring` does, and `NotReady` for a full disk."""
        path = self.path(digest)
        with self._turn(digest), storing():
            if not self._sound(path, digest):
                self._bring(digest, path)
                self._used(path)
                self._trim(spare=path)
        return path

    def adopt(self, digest: str, file: Path, aside: Path) -> None:
        """Link a file that is known to be right, so that nobody brings it; without hard links nothing happens.

        `aside` is a free name on the same disk: who was handed the copy of before finds one at any moment.
        """
        path = self.path(digest)
        with self._turn(digest), suppress(OSError):  # only an economy: the bytes are in the store
            os.link(file, aside)
            try:
                aside.replace(path)
                fsync_folder(self._folder)
            finally:
                aside.unlink(missing_ok=True)  # still there where both names were of one file

    def check(self) -> tuple[str, ...]:
        """Files that are no copies, and turns that nobody takes; empty when sound."""
        with storing():
            copies = set(self._folder.glob(_COPIES))
            strays = sorted(path.name for path in self._folder.iterdir() if path not in copies)
        with self._lock:
            idle = [digest for digest, (_, wanting) in self._turns.items() if wanting < 1]
        return (*(f"downloads: {name} is no copy" for name in strays), *(f"downloads: {d} waits" for d in idle))

    def _sound(self, path: Path, digest: str) -> bool:
        try:
            self._used(path)  # first, so that nobody trims it while it is read
            if digest_of(path) == digest:
                return True
        except FileNotFoundError:
            return False
        except OSError:  # a bad sector: the store has better bytes
            pass
        path.unlink(missing_ok=True)
        return False

    def _used(self, path: Path) -> None:
        now = self._clock()
        os.utime(path, (now, now))

    def _trim(self, *, spare: Path) -> None:
        """Let the longest unused go until the rest fits; not those that someone may be about to open."""
        found = []
        for path in self._folder.glob(_COPIES):
            with suppress(FileNotFoundError):  # another process trims as well
                found.append((path.stat(), path))
        used = sum(status.st_size for status, _ in found)
        for status, path in sorted(found, key=lambda item: (item[0].st_mtime, item[1].name)):
            if used <= self._budget:
                return
            if path == spare or status.st_mtime > self._clock() - _GRACE_S:
                continue
            path.unlink(missing_ok=True)
            used -= status.st_size

    @contextmanager
    def _turn(self, digest: str) -> Iterator[None]:
        with self._lock:
            turn, wanting = self._turns.get(digest, (threading.Lock(), 0))
            self._turns[digest] = (turn, wanting + 1)
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, wanting = self._turns[digest]
                if wanting == 1:
                    del self._turns[digest]
                else:
                    self._turns[digest] = (turn, wanting - 1)
