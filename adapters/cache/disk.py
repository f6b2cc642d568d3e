"""The disk tier: verified packages in one folder, each named by its sha256, under a byte budget.

A file gets its final name only after its bytes were checked, by rename, so that a crash leaves either a whole file or
a temporary one that the next start sweeps away. Bytes are checked again whenever a file is used (0.7 ms per MB), whoever
left it there: loads are rare, and the worst failure of this service is a silently wrong answer.
"""

import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from adapters.cache.lru import Lru
from adapters.errors import AdapterError, LoadFailed, OutOfRoom, PackageLost, PackageRotten, StoreUnavailable
from adapters.files import digest_of, fsync_folder

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".part"

Source = Callable[[str], Path]  # digest -> where the registry has the blob


class DiskTier:
    """Files that one thread fetches; any thread may ask what is there."""

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder = folder
        self.evictions = 0
        self.fetched = 0
        self.bytes_fetched = 0
        self.damaged = 0  # files of ours that had other bytes when they were used
        self._strays: set[Path] = set()  # what could not be removed: tried again at the next fetch
        self._lock = threading.Lock()  # guards the books only, never held during I/O
        self._lru: Lru[str] = Lru(budget)
        folder.mkdir(parents=True, exist_ok=True)
        self._recount()

    @property
    def budget(self) -> int:
        """Bytes that the files may take in all."""
        return self._lru.budget

    @property
    def used(self) -> int:
        """Bytes that the files take."""
        return self._lru.used

    def __contains__(self, digest: object) -> bool:
        return digest in self._lru

    def __len__(self) -> int:
        return len(self._lru)

    def nbytes(self, digest: str) -> int | None:
        """Bytes of a file; None if it is not here."""
        with self._lock:
            return self._lru.nbytes(digest) if digest in self._lru else None

    def path(self, digest: str) -> Path:
        """Where the file of a digest lies, or would lie; raises `LoadFailed` for what is no digest."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise LoadFailed(f"{digest!r} is not a sha256 digest")
        return self.folder / match[1]

    def fetch(self, digest: str, source: Source) -> Path:
        """The file of a digest with checked bytes, brought from `source` if it is absent or damaged.

        Raises what `source` raises of the library's errors, else `LoadFailed`; `PackageLost` if the file that it names
        is not there, `PackageRotten` if wrong bytes come twice, `StoreUnavailable` for a fault of a disk, and `OutOfRoom`
        if the file is larger than the whole tier. The path is good until the next `fetch`.
        """
        path = self.path(digest)
        self._clear()
        if digest in self._lru:
            if _sound(path, digest):
                with self._lock:
                    self._lru.touch(digest)
                return path
            self.damaged += 1
            self.drop(digest)
        temporary = path.with_name(path.name + _TEMPORARY)
        try:
            nbytes = self._bring(digest, source, temporary)
            self._make_room(digest, nbytes)
            temporary.replace(path)
            self._strays.discard(path)
            fsync_folder(self.folder)
        except OSError as error:
            self._remove(path)
            raise StoreUnavailable(f"{digest} could not be stored on disk: {_said(error)}") from error
        finally:
            self._remove(temporary)
        with self._lock:
            self._lru.add(digest, nbytes)
        self.fetched += 1
        self.bytes_fetched += nbytes
        return path

    def drop(self, digest: str) -> bool:
        """Remove the file of a digest; False if there is none."""
        with self._lock:
            if digest not in self._lru:
                return False
            self._lru.remove(digest)
        self._remove(self.path(digest))
        return True

    def check(self) -> tuple[str, ...]:
        """Every breach between the books and the folder; empty when sound."""
        with self._lock:
            faults = list(self._lru.check())
            booked = tuple(self._lru)
        missing = [digest for digest in booked if not self.path(digest).is_file()]
        with self._lock:  # booked after the file is there, unbooked before it goes: now a miss is a fault
            faults += [f"{d} is missing" for d in missing if d in self._lru and not self.path(d).is_file()]
        return tuple(f"disk: {fault}" for fault in faults)

    def _bring(self, digest: str, source: Source, temporary: Path) -> int:
        for _ in range(2):
            try:
                blob = source(digest)
            except AdapterError:
                raise
            except Exception as error:  # the source is not ours: a network or a database may stand behind it
                raise LoadFailed(f"{digest} could not be fetched: {_said(error)}") from error
            temporary.unlink(missing_ok=True)
            try:
                _link_or_copy(blob, temporary)
            except FileNotFoundError as error:
                raise PackageLost(f"the bytes of {digest} are not where they were kept", digest) from error
            if digest_of(temporary) == digest:  # where it can not be read, the disk is to blame, not the source
                return temporary.stat().st_size
        raise PackageRotten(f"{digest} was delivered with other bytes, twice", digest)

    def _make_room(self, digest: str, nbytes: int) -> None:
        if nbytes > self.budget:
            raise OutOfRoom(f"{digest} takes {nbytes} bytes, the disk tier holds {self.budget} in all")
        with self._lock:
            gone = self._lru.room(nbytes)
        assert gone is not None, "nothing on disk is leased or pinned"
        for old in gone:
            self.drop(old)
            self.evictions += 1

    def _remove(self, path: Path) -> None:
        """Take a file away that nothing is booked for; where the disk refuses, later."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            self._strays.add(path)
        else:
            self._strays.discard(path)

    def _clear(self) -> None:
        for path in tuple(self._strays):
            self._remove(path)

    def _recount(self) -> None:
        for stray in self.folder.glob(f"*{_TEMPORARY}"):
            self._remove(stray)
        found = [(path.stat(), path) for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
        for status, path in sorted(found, key=lambda item: (-item[0].st_mtime_ns, item[1].name)):
            if self._lru.used + status.st_size > self.budget:  # the budget was made smaller: the oldest go
                self._remove(path)
                self.evictions += 1
                continue
            self._lru.add(f"sha256:{path.name}", status.st_size)
        for digest in reversed(tuple(self._lru)):
            self._lru.touch(digest)  # newest file, most recently used


def _said(error: Exception) -> str:
    """What may be told: a tenant reads it, so no path of this machine."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _link_or_copy(blob: Path, target: Path) -> None:
    try:
        os.link(blob, target)  # the same bytes on the same file system; ours is only ever unlinked, never written
        return
    except FileNotFoundError:
        raise
    except OSError:
        pass  # another file system, or one without hard links
    with blob.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())


def _sound(path: Path, digest: str) -> bool:
    """Whether these are the bytes of a digest; what can not be read is as bad as what is wrong."""
    try:
        return digest_of(path) == digest
    except OSError:
        return False
