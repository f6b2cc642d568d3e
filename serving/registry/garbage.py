"""What is stored and leads nowhere: blobs that no version refers to, once they are old enough.

Young ones are uploads on their way to their transaction; the blobs of versions that were retired a short while ago may
still be on their way into an engine. Why a publish of the very bytes that are deleted is safe: `blobs.keeping`.
"""

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from serving.errors import Conflict
from serving.registry.blobs.store import Blobs, Stored
from serving.registry.database import Database
from serving.registry.tables import TOMBSTONES, VERSIONS

GRACE_S = 86_400.0
_AT_ONCE = 16  # blobs per transaction: other writers wait meanwhile


@dataclass(frozen=True)
class Collected:
    """What a collection saw, and what it removed (or would)."""

    removed: int
    removed_bytes: int
    kept: int  # referred to, or retired within the grace time
    young: int
    uploads: int  # half received, by processes that are gone


def collect(
    database: Database,
    blobs: Blobs,
    *,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    unknown: bool = False,
    clock: Callable[[], float] = time.time,
) -> Collected:
    """Delete every blob that no version refers to, last kept and last referred to more than `grace_s` seconds ago.

    Raises `Conflict` where the registry knows not one of the blobs, nor that it once had one: it is probably not
    theirs; `unknown` goes on all the same.
    """
    before = clock() - grace_s
    found = list(blobs.digests())
    old = [blob for blob in found if blob.modified < before]
    if old and not unknown and not _knows_any(database, found):
        raise Conflict(
            f"this registry has never heard of any of the {len(found)} blobs: is it theirs? "
            "Name theirs with --database-url, or say --unknown to remove them",
            code="other_registry",
        )
    total = Collected(0, 0, 0, len(found) - len(old), 0 if dry_run else blobs.sweep())
    for batch in _batches(old):
        total = _add(total, *_collected(database, blobs, batch, before, dry_run=dry_run))
    return total


def referred(connection: Connection, digests: Collection[str], since: float) -> frozenset[str]:
    """Those of some digests that a version leads to, or led to after a time (UTC seconds)."""
    held = select(VERSIONS.c.digest).where(VERSIONS.c.digest.in_(digests))
    lately = select(TOMBSTONES.c.digest).where(TOMBSTONES.c.digest.in_(digests), TOMBSTONES.c.at >= since)
    return frozenset(connection.execute(held.union(lately)).scalars())


def _collected(
    database: Database, blobs: Blobs, batch: list[Stored], before: float, *, dry_run: bool
) -> tuple[list[Stored], list[Stored]]:
    """(removed, kept) of a few blobs."""
    digests = [blob.digest for blob in batch]
    if dry_run:
        with database.read() as connection:
            held = referred(connection, digests, before)
        gone = [blob for blob in batch if blob.digest not in held]
    else:
        with database.write() as write:  # until this ends nobody else can begin to refer to one of them
            held = referred(write.connection, digests, before)
            doomed = [blob for blob in batch if blob.digest not in held]
            gone = [blob for blob in doomed if blobs.delete(blob.digest, before=before)]
    return gone, [blob for blob in batch if blob not in gone]


def _add(total: Collected, gone: list[Stored], kept: list[Stored]) -> Collected:
    return replace(
        total,
        removed=total.removed + len(gone),
        removed_bytes=total.removed_bytes + sum(blob.nbytes for blob in gone),
        kept=total.kept + len(kept),
    )


def _knows_any(database: Database, found: Iterable[Stored]) -> bool:
    with database.read() as connection:
        return any(referred(connection, [blob.digest for blob in batch], 0.0) for batch in _batches(found, 500))


def _batches(blobs: Iterable[Stored], size: int = _AT_ONCE) -> Iterator[list[Stored]]:
    rest = iter(blobs)
    while batch := list(itertools.islice(rest, size)):
        yield batch
