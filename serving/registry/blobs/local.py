"""Blobs as files of the data folder: linked into place only after their bytes are on the disk.

<root>/uploads/<random>.part     being received; locked by the process that writes it
<root>/sha256/ab/<64 hex>        kept
<root>/owner                     the id of the registry that claimed them
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adapters.files import digest_of, fsync_folder
from serving.registry.blobs.refusals import storing
from serving.registry.blobs.store import OWNER, PIECE, BlobLost, BlobRotten, State, Stored, digest_at, key_of
from serving.registry.blobs.uploads import Upload, Uploads


class LocalBlobs:
    """Blobs of one data folder, for every process of this machine. Implements `serving.registry.blobs.store.Blobs`."""

    settle_s = 0.0  # what was unlinked is gone

    def __init__(self, root: Path) -> None:
        self._root = root
        self._uploads = Uploads(root / "uploads")
        with storing():
            (root / "sha256").mkdir(parents=True, exist_ok=True)

    def receive(self) -> Upload:
        """Open a new upload, locked as long as this process lives."""
        return self._uploads.receive()

    def keep(self, upload: Upload) -> None:
        """Give an upload its name. The bytes and the name are on the disk when this returns."""
        upload.flush()
        target = self.path(upload.digest)
        with storing():
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                fsync_folder(target.parent.parent)
            try:
                os.link(upload.path, target)
            except FileExistsError:  # the same bytes, kept before or at the same moment; or what has become of them
                self._renew(upload, target)
            fsync_folder(target.parent)

    def path(self, digest: str) -> Path:
        """Where a digest lives, whether or not it is there."""
        return self._root / key_of(digest)

    def present(self, digest: str) -> bool:
        """Whether there is a file."""
        with storing():
            return self.path(digest).is_file()

    def state(self, digest: str) -> State:
        """What a digest leads to; reads all bytes."""
        with storing():
            try:
                return "sound" if digest_of(self.path(digest)) == digest else "rotten"
            except FileNotFoundError:
                return "lost"

    def verify(self, digest: str) -> bool:
        """Whether the bytes of a digest are there and are the right ones; reads all of them."""
        return self.state(digest) == "sound"

    def fetch(self, digest: str, target: Path) -> None:
        """A verified copy; raises `BlobLost` or `BlobRotten`."""
        copy = Uploads(target.parent).receive()
        try:
            for piece in self._pieces(digest):
                copy.write(piece)
            if copy.digest != digest:
                raise BlobRotten(digest)
            copy.settle(target)
        finally:
            copy.discard()

    def local(self, digest: str) -> Path:
        """The blob's own file, not verified; raises `BlobLost`."""
        if not self.present(digest):
            raise BlobLost(digest)
        return self.path(digest)

    def delete(self, digest: str, *, before: float) -> bool:
        """Remove a blob that was last kept before a time; False where it is younger, or not there."""
        path = self.path(digest)
        with storing():
            try:
                if path.stat().st_mtime >= before:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True

    def digests(self) -> Iterator[Stored]:
        """Every blob, in no order."""
        with storing():
            for path in (self._root / "sha256").glob("*/*"):
                digest = digest_at(path.relative_to(self._root).as_posix())
                with suppress(FileNotFoundError):  # deleted meanwhile
                    status = path.stat()
                    if digest is not None:
                        yield Stored(digest, status.st_size, status.st_mtime)

    def owner(self) -> str | None:
        """The registry that claimed this folder."""
        with storing():
            try:
                return (self._root / OWNER).read_text("ascii")
            except FileNotFoundError:
                return None

    def claim(self, registry: str, *, anew: bool = False) -> None:
        """Note that this folder belongs to a registry; only `anew` takes it from another one."""
        note = self.receive()
        try:
            note.write(registry.encode("ascii"))
            if anew:
                note.settle(self._root / OWNER)
                return
            note.flush()
            with storing(), suppress(FileExistsError):
                os.link(note.path, self._root / OWNER)
                fsync_folder(self._root)
        finally:
            note.discard()

    def sweep(self) -> int:
        """Remove uploads whose process is gone; returns how many."""
        return self._uploads.sweep()

    def check(self) -> tuple[str, ...]:
        """Files that are neither uploads nor blobs; empty when sound."""
        with storing():
            files = [path.relative_to(self._root) for path in (self._root / "sha256").rglob("*") if path.is_file()]
        strays = sorted(path.as_posix() for path in files if digest_at(path.as_posix()) is None)
        return (*self._uploads.check(), *(f"blobs: {name} is no blob" for name in strays))

    def _renew(self, upload: Upload, target: Path) -> None:
        try:
            if digest_of(target) == upload.digest:
                os.utime(target)
                return
        except OSError:  # collected this moment, or a bad sector: in its place comes what was just received
            pass
        spare = self._uploads.spare()  # the held bytes rotted; these are the right ones, and the upload keeps its name
        os.link(upload.path, spare)
        spare.replace(target)

    def _pieces(self, digest: str) -> Iterator[bytes]:
        with storing():
            try:
                file = self.path(digest).open("rb")
            except FileNotFoundError as error:
                raise BlobLost(digest) from error
            with file:
                while piece := file.read(PIECE):
                    yield piece
