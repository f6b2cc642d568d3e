"""Marks on bytes that a collector removes: as long as they stand, nobody begins to refer to these bytes.

A store may carry out a deletion long after it was asked for it: the answer got lost, the bucket was slow, the collector
was killed. So no transaction is open while bytes are deleted. A collector marks what no row refers to, commits, deletes,
and leaves the mark standing until the last deletion has certainly taken effect; a mark ends by itself, whatever becomes
of its collector. Writes of the registry come one after another (`serving.registry.database`), so either the row is there
when the collector marks, or the mark is there when the row is written: its writer is refused while the mark stands, and
keeps the bytes again where one came, and ended, since the writer asked.
"""

from collections.abc import Callable, Collection

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from serving.errors import NotReady
from serving.registry.blobs.store import BlobLost
from serving.registry.database import Write
from serving.registry.lookup import read_revision
from serving.registry.tables import DOOMED

_MARK = select(DOOMED.c.until, DOOMED.c.revision).where(DOOMED.c.digest == bindparam("digest"))
Still = Callable[[Connection, float], None]
"""Called with an open write and the time; raises where bytes that were kept before may be gone since."""


def undoomed(connection: Connection, digest: str, now: float) -> Still:
    """A test that no mark on a digest stands, or came after this; raises `NotReady` where one stands now (UTC seconds).

    The test raises the same, and `BlobLost` where the bytes have to be kept again.
    """
    _refuse_doomed(connection, digest, now)
    asked = read_revision(connection)

    def still(write: Connection, then: float) -> None:
        marked = _refuse_doomed(write, digest, then)
        if marked > asked:
            raise BlobLost(digest)

    return still


def mark(write: Write, digests: Collection[str], until: float) -> None:
    """Doom some digests until a time (UTC seconds); those that no row refers to in this transaction."""
    write.connection.execute(delete(DOOMED).where(DOOMED.c.digest.in_(digests)))
    rows = [{"digest": digest, "until": until, "revision": write.revision} for digest in digests]
    if rows:
        write.connection.execute(insert(DOOMED), rows)


def settle(write: Write, digests: Collection[str], until: float) -> None:
    """Have the marks of some digests end at another time: all deletions were answered."""
    write.connection.execute(update(DOOMED).where(DOOMED.c.digest.in_(digests)).values(until=until))


def forget(write: Write, before: float) -> None:
    """Remove the marks that ended before a time, at which nobody was on the way from `undoomed` to his transaction."""
    write.connection.execute(delete(DOOMED).where(DOOMED.c.until < before))


def _refuse_doomed(connection: Connection, digest: str, now: float) -> int:
    """The revision of a mark that has ended; 0 where there is none."""
    row = connection.execute(_MARK, {"digest": digest}).one_or_none()
    if row is None:
        return 0
    left = row.until - now
    if left > 0:
        raise NotReady(
            f"nothing referred to these bytes any more, and they are being removed: publish them in {left:.0f} s",
            code="being_removed",
            retry_after=max(1.0, left),
        )
    revision: int = row.revision
    return revision
