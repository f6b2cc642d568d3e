"""Files that are being received: hashed as they are written, and locked by the process that writes them.

A sweep removes those whose process is gone: the lock went with it.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import threading
from pathlib import Path

from adapters.files import fsync_folder
from serving.logs import log
from serving.registry.blobs.refusals import storing

_CHUNK = 1 << 20
_SUFFIX = ".part"


class Upload:
    """A file that is being received. `digest` and `nbytes` are those of the bytes written so far.

    A cancelled publish discards it while a thread may still write, hence the lock: a closed descriptor's number is
    soon another file's.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.nbytes = 0
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._using = threading.Lock()

    @property
    def digest(self) -> str:
        """`sha256:<64 hex>`."""
        return f"sha256:{self._hash.hexdigest()}"

    def claim(self) -> bool:
        """Lock the file as long as this process lives; False where a sweep removed it before the lock was had."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return os.fstat(self._descriptor).st_nlink > 0

    def write(self, chunk: bytes | bytearray) -> None:
        """Append; raises `NotReady` where the disk is full."""
        with storing(), self._using:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]
        self._hash.update(chunk)
        self.nbytes += len(chunk)

    def adopt(self) -> None:
        """Count and hash what another process has written into this file instead of `write`."""
        with storing(), self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._hash.update(chunk)
                self.nbytes += len(chunk)

    def flush(self) -> None:
        """Bring the bytes to the disk."""
        with storing(), self._using:
            os.fsync(self._descriptor)

    def settle(self, target: Path) -> None:
        """Give the file its name for good, in place of what had it; bytes and name are on the disk then."""
        self.flush()
        with storing():
            self.path.replace(target)
            fsync_folder(target.parent)

    def discard(self) -> None:
        """Remove the file and its lock; what was kept or settled stays. Doing it twice is doing it once."""
        with self._using:
            if self._descriptor < 0:
                return
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:  # the next sweep removes it; what was published stays published
                log("registry", "an upload stays behind", level=logging.WARNING, why=error.strerror)
            os.close(self._descriptor)
            self._descriptor = -1


class Uploads:
    """The uploads in one folder, which is made if it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with storing():
            folder.mkdir(parents=True, exist_ok=True)

    def receive(self) -> Upload:
        """Open a new upload, locked as long as this process lives."""
        with storing():
            upload = self._open()
            try:
                while not upload.claim():
                    upload.discard()
                    upload = self._open()
            except OSError:
                upload.discard()
                raise
            return upload

    def sweep(self) -> int:
        """Remove uploads whose process is gone; returns how many. Uploads of living processes are locked."""
        with storing():
            return sum(_remove_if_unlocked(path) for path in self.folder.glob(f"*{_SUFFIX}"))

    def check(self) -> tuple[str, ...]:
        """Files that are no uploads; empty when sound."""
        with storing():
            strays = sorted(path.name for path in self.folder.iterdir() if path.suffix != _SUFFIX)
        return tuple(f"uploads: {name} is no upload" for name in strays)

    def spare(self) -> Path:
        """A name for a second link to an upload, which a sweep removes like any other."""
        return self.folder / f"{secrets.token_hex(16)}{_SUFFIX}"

    def _open(self) -> Upload:
        path = self.spare()
        return Upload(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _remove_if_unlocked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
