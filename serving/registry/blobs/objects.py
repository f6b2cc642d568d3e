"""Blobs as objects of a bucket, with uploads and verified copies in the data folder of this machine.

<root>/uploads/<random>.part     being received, or being brought; locked by the process that writes it
<root>/copies/<64 hex>           brought, verified
<bucket>/sha256/ab/<64 hex>      kept: a whole object or none, which is what buckets promise
<bucket>/owner                   the id of the registry that claimed them
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from adapters.files import digest_of
from serving.registry.blobs.bucket import Bucket, Held
from serving.registry.blobs.downloads import Downloads
from serving.registry.blobs.refusals import away, storing
from serving.registry.blobs.store import OWNER, BlobLost, BlobRotten, State, Stored, digest_at, key_of
from serving.registry.blobs.uploads import Upload, Uploads

PIECE = 4 << 20  # bytes of an object that one request asks for, and so what must come within the deadline
SETTLE_S = 120.0
_FRESH_S = 3600.0  # younger objects are not written again to renew their age; a collector's grace time is far longer


class ObjectBlobs:
    """Blobs of one bucket, for any number of machines. Implements `serving.registry.blobs.store.Blobs`."""

    def __init__(
        self,
        bucket: Bucket,
        root: Path,
        *,
        budget: int,
        settle_s: float = SETTLE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`budget` bounds the bytes of the copies; `settle_s` is far longer than a request to the bucket may take."""
        self._bucket = bucket
        self.settle_s = settle_s
        self._uploads = Uploads(root / "uploads")
        self._copies = Downloads(root / "copies", budget, self._bring, clock)
        self._clock = clock

    def receive(self) -> Upload:
        """Open a new upload, locked as long as this process lives."""
        return self._uploads.receive()

    def keep(self, upload: Upload) -> None:
        """Store an upload under its digest. What the bucket then gives back was read and found right."""
        digest, key = upload.digest, key_of(upload.digest)
        with storing():
            if digest_of(upload.path) != digest:
                raise away("the disk gave back other bytes than it was given")
        if not self._bucket.put(key, upload.path, create=True) and not self._renewed(digest):
            self._bucket.put(key, upload.path, create=False)  # it rotted, or it is old: the same bytes again
        if not self.verify(digest):
            self._bucket.put(key, upload.path, create=False)
            if not self.verify(digest):
                raise away("it holds other bytes than it was sent")
        self._copies.adopt(digest, upload.path, self._uploads.spare())

    def present(self, digest: str) -> bool:
        """Whether there is an object."""
        return self._bucket.head(key_of(digest)) is not None

    def state(self, digest: str) -> State:
        """What a digest leads to; reads all bytes."""
        hashed = hashlib.sha256()
        try:
            for piece in self._pieces(digest):
                hashed.update(piece)
        except BlobLost:
            return "lost"
        return "sound" if f"sha256:{hashed.hexdigest()}" == digest else "rotten"

    def verify(self, digest: str) -> bool:
        """Whether the bytes of a digest are there and are the right ones; reads all of them."""
        return self.state(digest) == "sound"

    def fetch(self, digest: str, target: Path) -> None:
        """A verified copy; raises `BlobLost`, and `BlobRotten` where wrong bytes came twice."""
        self._bring(digest, target, Uploads(target.parent))

    def local(self, digest: str) -> Path:
        """A verified copy on this machine, brought where it is not there; raises `BlobLost` or `BlobRotten`."""
        return self._copies.get(digest)

    def delete(self, digest: str, *, before: float) -> bool:
        """Remove a blob that was last kept before a time; False where it is younger, or not there."""
        key = key_of(digest)
        held = self._bucket.head(key)
        if held is None or held.modified >= before:
            return False
        self._bucket.delete(key)
        return True

    def digests(self) -> Iterator[Stored]:
        """Every blob, in no order."""
        for held in self._bucket.objects("sha256"):
            digest = digest_at(held.key)
            if digest is not None:
                yield Stored(digest, held.nbytes, held.modified)

    def owner(self) -> str | None:
        """The registry that claimed this bucket."""
        held = self._bucket.head(OWNER)
        told = None if held is None else self._bucket.read(OWNER, 0, held.nbytes)
        return None if told is None else told.decode("ascii", "replace")

    def claim(self, registry: str, *, anew: bool = False) -> None:
        """Note that this bucket belongs to a registry; only `anew` takes it from another one."""
        note = self.receive()
        try:
            note.write(registry.encode("ascii"))
            note.flush()
            self._bucket.put(OWNER, note.path, create=not anew)
        finally:
            note.discard()

    def sweep(self) -> int:
        """Remove uploads and half brought copies whose process is gone; returns how many."""
        return self._uploads.sweep()

    def check(self) -> tuple[str, ...]:
        """What lies in this machine's folders and should not; empty when sound."""
        return (*self._uploads.check(), *self._copies.check())

    def _renewed(self, digest: str) -> bool:
        """Whether what is there is young enough that no collector will take it for forgotten."""
        held: Held | None = self._bucket.head(key_of(digest))
        return held is not None and held.modified > self._clock() - _FRESH_S

    def _bring(self, digest: str, target: Path, uploads: Uploads | None = None) -> None:
        for _ in range(2):  # bytes that were damaged on their way are right the second time
            copy = (uploads or self._uploads).receive()
            try:
                for piece in self._pieces(digest):
                    copy.write(piece)
                if copy.digest == digest:
                    copy.settle(target)
                    return
            finally:
                copy.discard()
        raise BlobRotten(digest)

    def _pieces(self, digest: str) -> Iterator[bytes]:
        key = key_of(digest)
        held = self._bucket.head(key)
        if held is None:
            raise BlobLost(digest)
        for start in range(0, held.nbytes, PIECE):
            piece = self._bucket.read(key, start, min(start + PIECE, held.nbytes))
            if piece is None:
                raise BlobLost(digest)
            yield piece
