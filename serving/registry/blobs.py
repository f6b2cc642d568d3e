"""Write-once files named by their content: what a digest points to never changes, and is whole or absent.

<root>/uploads/<random>.part     being received; locked by the process that writes it
<root>/sha256/ab/<64 hex>        kept; linked into place only after its bytes are on the disk
"""

import fcntl
import hashlib
import logging
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import NotReady
from serving.logs import log

_CHUNK = 1 << 20


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

    def write(self, chunk: bytes) -> None:
        """Append; raises `NotReady` where the disk is full."""
        with _storing(), self._using:
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._descriptor, view) :]
        self._hash.update(chunk)
        self.nbytes += len(chunk)

    def adopt(self) -> None:
        """Count and hash what another process has written into this file instead of `write`."""
        with _storing(), self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._hash.update(chunk)
                self.nbytes += len(chunk)

    def flush(self) -> None:
        """Bring the bytes to the disk."""
        with _storing(), self._using:
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove the file and its lock; what was kept stays. Doing it twice is doing it once."""
        with self._using:
            if self._descriptor < 0:
                return
            try:
                self.path.unlink(missing_ok=True)
            except OSError as error:  # the next sweep removes it; what was published stays published
                log("registry", "an upload stays behind", level=logging.WARNING, why=error.strerror)
            os.close(self._descriptor)
            self._descriptor = -1


class BlobStore:
    """Blobs of one data folder. Methods are synchronous: call them from a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._uploads = root / "uploads"
        with _storing():
            for folder in (self._uploads, root / "sha256"):
                folder.mkdir(parents=True, exist_ok=True)

    def receive(self) -> Upload:
        """Open a new upload, locked as long as this process lives."""
        with _storing():
            upload = self._open()
            try:
                while not upload.claim():
                    upload.discard()
                    upload = self._open()
            except OSError:
                upload.discard()
                raise
            return upload

    def _open(self) -> Upload:
        path = self._uploads / f"{secrets.token_hex(16)}.part"
        return Upload(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def keep(self, upload: Upload) -> Path:
        """Give an upload its name. The bytes and the name are on the disk when this returns."""
        upload.flush()
        target = self.path(upload.digest)
        with _storing():
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                _fsync_folder(target.parent.parent)
            if not target.exists() or self.verify(upload.digest):
                self._link(upload, target)
            else:
                upload.path.replace(target)  # the held bytes rotted; these are the right ones
            _fsync_folder(target.parent)
        return target

    def path(self, digest: str) -> Path:
        """Where a digest lives, whether or not it is there."""
        algorithm, _, value = digest.partition(":")
        assert algorithm == "sha256"
        assert len(value) == 64
        return self._root / algorithm / value[:2] / value

    def verify(self, digest: str) -> bool:
        """Whether the bytes of a digest are there and are the right ones; reads all of them."""
        hashed = hashlib.sha256()
        try:
            with self.path(digest).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    hashed.update(chunk)
        except FileNotFoundError:
            return False
        return f"sha256:{hashed.hexdigest()}" == digest

    def sweep(self) -> int:
        """Remove uploads whose process is gone; returns how many. Uploads of living processes are locked."""
        return sum(_remove_if_unlocked(path) for path in self._uploads.glob("*.part"))

    def _link(self, upload: Upload, target: Path) -> None:
        try:
            os.link(upload.path, target)
        except FileExistsError:
            return  # the same bytes, kept before or at the same moment


def _remove_if_unlocked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY)
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


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotReady(f"the blob store can not take this now: {reason}", code="storage_unavailable") from error
