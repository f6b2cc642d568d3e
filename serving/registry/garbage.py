"""What is stored and leads nowhere: blobs that no version refers to, once they are old enough.

Young ones are uploads on their way to their transaction; the blobs of versions that were retired a short while ago may
still be on their way into an engine. Why a publish of the very bytes that are deleted is safe: `doom`.
"""

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from serving.errors import Conflict
from serving.registry import doom
from serving.registry.blobs.store import Blobs, Stored
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.ownership import id_of, refuse_foreign
from serving.registry.suspicion import confine, examine
from serving.registry.tables import ORIGIN, TOMBSTONES, VERSIONS

GRACE_S = 86_400.0
_AT_ONCE = 16  # blobs that are marked together: nobody can publish them meanwhile
_WORK_S = 60.0  # no deletion is begun later than that after its mark
_REMEMBERED_S = 86_400.0  # an ended mark is of use for as long as a publish may take


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

    Safe to interrupt anywhere. Raises `Conflict` where the blobs are not this registry's, unless `unknown` makes them
    so, and where gateways of the release before may still publish; `NotReady` where the database or the store gives up.
    """
    before = clock() - grace_s
    found = list(blobs.digests())
    old = [blob for blob in found if blob.modified < before]
    if old:
        _refuse_overlap(database, before, grace_s)
        if not unknown:
            refuse_foreign(database, blobs)
        elif not dry_run:
            blobs.claim(id_of(database), anew=True)
    total = Collected(0, 0, 0, len(found) - len(old), 0 if dry_run else blobs.sweep())
    remove = _told(database, before) if dry_run else _Removal(database, blobs, before, clock)
    for batch in _batches(old):
        total = _add(total, *remove(batch))
    if not dry_run:
        with database.write() as write:
            doom.forget(write, clock() - _REMEMBERED_S)
    return total


def referred(connection: Connection, digests: Collection[str], since: float) -> frozenset[str]:
    """Those of some digests that a version leads to, or led to after a time (UTC seconds)."""
    held = select(VERSIONS.c.digest).where(VERSIONS.c.digest.in_(digests))
    lately = select(TOMBSTONES.c.digest).where(TOMBSTONES.c.digest.in_(digests), TOMBSTONES.c.at >= since)
    return frozenset(connection.execute(held.union(lately)).scalars())


@dataclass(frozen=True)
class _Removal:
    """Deletes what nothing refers to out of a few blobs, in three steps: mark, delete, settle."""

    database: Database
    blobs: Blobs
    before: float
    clock: Callable[[], float]

    def __call__(self, batch: list[Stored]) -> tuple[list[Stored], list[Stored]]:
        """(removed, kept)."""
        removed, rest = list[Stored](), batch
        while rest:
            until = self.clock() + _WORK_S
            doomed = self._marked(rest, until)
            done, gone = self._deleted(doomed, until)
            self._settle(done, gone)
            removed += gone
            rest = doomed[len(done) :]  # where the store is slow: they are marked anew
        return removed, [blob for blob in batch if blob not in removed]

    def _deleted(self, doomed: list[Stored], until: float) -> tuple[list[Stored], list[Stored]]:
        """(those that were tried until a time, those of them that are gone)."""
        done, gone = list[Stored](), list[Stored]()
        for blob in doomed:
            if self.clock() > until:
                break
            if self.blobs.delete(blob.digest, before=self.before):
                gone.append(blob)
            done.append(blob)
        return done, gone

    def _marked(self, batch: list[Stored], until: float) -> list[Stored]:
        """Those that nothing refers to; from now on nothing can begin to."""
        with self.database.write() as write:
            held = referred(write.connection, [blob.digest for blob in batch], self.before)
            doomed = [blob for blob in batch if blob.digest not in held]
            doom.mark(write, [blob.digest for blob in doomed], until + self.blobs.settle_s)
        return doomed

    def _settle(self, done: list[Stored], gone: list[Stored]) -> None:
        """All deletions were answered: the marks stay for what the store may still have of them, and no longer."""
        with self.database.write() as write:
            doom.settle(write, [blob.digest for blob in done], self.clock() + self.blobs.settle_s)
            late = referred(write.connection, [blob.digest for blob in gone], float("inf"))
        for digest in late:  # this process was stopped between mark and deletion, for longer than the mark stood
            state = examine(self.blobs, digest)
            if state != "sound":
                confine(Catalog(self.database), self.blobs, digest, state)


def _told(database: Database, before: float) -> Callable[[list[Stored]], tuple[list[Stored], list[Stored]]]:
    """The same as words."""

    def would(batch: list[Stored]) -> tuple[list[Stored], list[Stored]]:
        with database.read() as connection:
            held = referred(connection, [blob.digest for blob in batch], before)
        return [b for b in batch if b.digest not in held], [b for b in batch if b.digest in held]

    return would


def _refuse_overlap(database: Database, before: float, grace_s: float) -> None:
    """Raise `Conflict` for a registry that came to this release's schema within the grace time."""
    with database.read() as connection:
        since: float = connection.execute(select(ORIGIN.c.since)).scalar_one()
    if since > before:
        raise Conflict(
            f"this registry was brought up to date less than {grace_s:g} s ago, and gateways of the release before "
            "would publish what is removed here: collect later, or with a shorter --grace when all of them are gone",
            code="release_overlap",
        )


def _add(total: Collected, gone: list[Stored], kept: list[Stored]) -> Collected:
    return replace(
        total,
        removed=total.removed + len(gone),
        removed_bytes=total.removed_bytes + sum(blob.nbytes for blob in gone),
        kept=total.kept + len(kept),
    )


def _batches(blobs: Iterable[Stored], size: int = _AT_ONCE) -> Iterator[list[Stored]]:
    rest = iter(blobs)
    while batch := list(itertools.islice(rest, size)):
        yield batch
