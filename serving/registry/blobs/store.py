"""What a blob store is: write-once bytes named by their sha256, verified whenever they are handed out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from adapters.files import digest_of
from serving.errors import DependencyFailed
from serving.registry.blobs.refusals import storing
from serving.registry.blobs.uploads import Upload

State = Literal["sound", "lost", "rotten"]
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
PIECE = 1 << 20  # bytes that are hashed or copied at once
OWNER = "owner"  # where a store notes which registry it belongs to


class BlobLost(DependencyFailed):
    """The store holds no bytes of a digest that something refers to."""

    code, title = "blob_lost", "Stored bytes are lost"

    def __init__(self, digest: str) -> None:
        super().__init__(f"the bytes of {digest} are not in the blob store: publish them again")
        self.digest = digest


class BlobRotten(DependencyFailed):
    """The store holds other bytes than those of the digest."""

    code, title = "blob_rotten", "Stored bytes are damaged"

    def __init__(self, digest: str) -> None:
        super().__init__(f"the blob store holds other bytes than those of {digest}: publish them again")
        self.digest = digest


@dataclass(frozen=True)
class Stored:
    """One blob as the store lists it; `modified` is when it was last kept (UTC seconds, of the store's clock)."""

    digest: str
    nbytes: int
    modified: float


class Blobs(Protocol):
    """A blob store. Methods are synchronous: call them from a thread.

    All raise `NotReady` with `retry_after` where the store, or the disk, can not do it now; none waits longer than the
    store's deadline for a single answer.
    """

    def receive(self) -> Upload:
        """Open a new upload: a local file, locked as long as this process lives."""
        ...

    def keep(self, upload: Upload) -> None:
        """Store an upload under its digest, durably and verified. Again is harmless, heals what rotted, renews its age."""
        ...

    def present(self, digest: str) -> bool:
        """Whether there are bytes under a digest; cheap, reads none of them."""
        ...

    def state(self, digest: str) -> State:
        """What a digest leads to; reads all bytes."""
        ...

    def verify(self, digest: str) -> bool:
        """Whether the bytes of a digest are there and are the right ones; reads all of them."""
        ...

    def fetch(self, digest: str, target: Path) -> None:
        """A verified copy in a file of its own, whole or not there; raises `BlobLost` or `BlobRotten`."""
        ...

    def local(self, digest: str) -> Path:
        """A local file with the bytes; raises `BlobLost`, and `BlobRotten` where they came over a network.

        Files of the local store are given as they are: whoever loads them verifies them, as `DiskTier` does.
        """
        ...

    def delete(self, digest: str, *, before: float) -> bool:
        """Remove a blob that was last kept before a time (UTC seconds); False where it is younger, or not there."""
        ...

    def digests(self) -> Iterator[Stored]:
        """Every blob, in no order."""
        ...

    @property
    def settle_s(self) -> float:
        """Seconds after which a deletion that was begun has taken effect, or never will."""
        ...

    def owner(self) -> str | None:
        """The registry that claimed this store: none but its own collector may remove anything."""
        ...

    def claim(self, registry: str, *, anew: bool = False) -> None:
        """Note, durably, that this store belongs to a registry; only `anew` takes it from another one."""
        ...

    def sweep(self) -> int:
        """Remove what dead processes left half received; returns how many files."""
        ...

    def check(self) -> tuple[str, ...]:
        """What lies in this process's own folders and should not; empty when sound."""
        ...


def verified(blobs: Blobs, digest: str) -> Path:
    """A local file whose bytes were just read and found right; raises `BlobLost` or `BlobRotten`."""
    path = blobs.local(digest)
    with storing():
        if digest_of(path) != digest:
            raise BlobRotten(digest)
    return path


def key_of(digest: str) -> str:
    """The place of a digest in a store, `sha256/ab/<64 hex>`; an assertion fails for what is no digest."""
    match = _DIGEST.fullmatch(digest)
    assert match is not None, f"{digest!r} is no digest"
    return f"sha256/{match[1][:2]}/{match[1]}"


def digest_at(key: str) -> str | None:
    """The digest whose place this is, or None."""
    digest = f"sha256:{key.rpartition('/')[2]}"
    return digest if _DIGEST.fullmatch(digest) and key_of(digest) == key else None
