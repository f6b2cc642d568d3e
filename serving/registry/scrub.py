"""Every byte that a version refers to is read again; what was lost or rotted goes into quarantine, what is well comes out."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import select

from serving.errors import NotReady
from serving.registry.blobs.store import Blobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.garbage import referred
from serving.registry.suspicion import REASONS, confine, examine
from serving.registry.tables import QUARANTINE, VERSIONS

_PATIENCE = 3  # refusals of the store in a row, after which it is away, and not one of its blobs unreadable


@dataclass(frozen=True)
class Scrubbed:
    """What was read, and the digests that were found wrong; `unreadable` ones were refused and are left as they are."""

    examined: int
    nbytes: int
    lost: tuple[str, ...]
    rotten: tuple[str, ...]
    unreadable: tuple[str, ...]
    lifted: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether every byte was there and right."""
        return not (self.lost or self.rotten or self.unreadable)


class Scrubber:
    """Reads at `rate` bytes per second at most (None: as fast as the store gives them)."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        *,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._catalog = Catalog(database)
        self._blobs = blobs
        self._rate = rate
        self._clock = clock
        self._sleep = sleep

    def scrub(self) -> Scrubbed:
        """Read everything once; raises `NotReady` where the store refuses again and again."""
        found: dict[str, list[str]] = {"sound": [], "lost": [], "rotten": [], "unreadable": [], "lifted": []}
        total, started, refused = 0, self._clock(), 0
        for digest, nbytes, reason in self._referred():
            try:
                state = self._judge(digest)
                refused = 0
            except NotReady:
                refused += 1
                if refused == _PATIENCE:
                    raise
                state = "unreadable"
            found[state].append(digest)
            if state == "sound" and reason in REASONS.values() and self._catalog.lift(digest).value:
                found["lifted"].append(digest)
            total += nbytes
            if self._rate is not None:
                self._sleep(max(0.0, started + total / self._rate - self._clock()))
        return Scrubbed(
            sum(len(found[state]) for state in ("sound", "lost", "rotten", "unreadable")),
            total,
            *(tuple(found[state]) for state in ("lost", "rotten", "unreadable", "lifted")),
        )

    def _referred(self) -> Iterator[tuple[str, int, str | None]]:
        """(digest, bytes, why it is in quarantine), each once."""
        query = (
            select(VERSIONS.c.digest, VERSIONS.c.nbytes, QUARANTINE.c.reason)
            .outerjoin(QUARANTINE, QUARANTINE.c.digest == VERSIONS.c.digest)
            .distinct()
            .order_by(VERSIONS.c.digest)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        yield from ((row.digest, row.nbytes, row.reason) for row in rows)

    def _judge(self, digest: str) -> str:
        state = examine(self._blobs, digest)
        if state == "sound":
            return state
        with self._database.read() as connection:
            if not referred(connection, [digest], float("inf")):
                return "sound"  # retired and collected while the others were read: nobody misses it
        return confine(self._catalog, self._blobs, digest, state).state
