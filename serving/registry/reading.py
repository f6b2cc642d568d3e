"""What the registry says, asked of SQL: each question is one read transaction, and so one consistent state."""

import time
from collections.abc import Callable
from functools import lru_cache

from sqlalchemy import select

from adapters.manifest import from_json
from serving.registry import doom, replays, trail
from serving.registry.database import Database
from serving.registry.doom import Still
from serving.registry.lookup import Delta, Held, name_is, nothing_held, read_delta
from serving.registry.records import AliasMove, AuditEntry, Once, Published, Space, Tombstone
from serving.registry.tables import TOMBSTONES, VERSIONS

_HISTORY = 1_000  # audit rows that one question returns


class Reading:
    """Questions to the registry. Methods are synchronous: call them from a thread. All raise `NotReady`."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._parse = lru_cache(maxsize=4096)(from_json)  # by text: manifests of one version are read over and over

    def since(self, revision: int, held: Held = nothing_held) -> Delta:
        """What changed after `revision`; 0 reads all. Versions that `held` has of a name are not read again."""
        with self._database.read() as connection:
            return read_delta(connection, revision, self._parse, held)

    def digests(self) -> frozenset[str]:
        """Every digest that some version leads to: what a collector of garbage has to keep."""
        with self._database.read() as connection:
            return frozenset(connection.execute(select(VERSIONS.c.digest).distinct()).scalars())

    def undoomed(self, digest: str) -> Still:
        """Asked before bytes are kept: a test, for the transaction that refers to them, that they are still there.

        Raises `NotReady` while a collector removes them.
        """
        with self._database.read() as connection:
            return doom.undoomed(connection, digest, self._clock())

    def history(self, tenant: str, space: Space, name: str) -> tuple[AuditEntry, ...]:
        """Audit rows of one name, newest first."""
        with self._database.read() as connection:
            return trail.read_history(connection, (tenant, space, name), _HISTORY)

    def audit(
        self,
        tenant: str | None,
        *,
        after: int,
        limit: int,
        space: str | None = None,
        name: str | None = None,
        action: str | None = None,
    ) -> tuple[AuditEntry, ...]:
        """A page of a tenant's audit (None: of everybody's), newest first; `after` is the last `sequence` seen, or 0."""
        wanted = {"space": space, "name": name, "action": action}
        with self._database.read() as connection:
            return trail.read_page(connection, tenant, after=after, limit=limit, **wanted)

    def alias_history(
        self, tenant: str, space: Space, name: str, alias: str | None = None, *, limit: int = _HISTORY
    ) -> tuple[AliasMove, ...]:
        """Where the aliases of a name (or one of them) have been, newest first, at most `limit` steps back."""
        with self._database.read() as connection:
            return trail.read_moves(connection, (tenant, space, name), alias, limit)

    def tombstones(self, tenant: str, space: Space, name: str) -> tuple[Tombstone, ...]:
        """What is left of the retired versions of a name, oldest first."""
        query = select(TOMBSTONES).where(name_is(TOMBSTONES, (tenant, space, name))).order_by(TOMBSTONES.c.version)
        with self._database.read() as connection:
            return tuple(Tombstone(row.version, row.digest, row.at, row.actor) for row in connection.execute(query))

    def answered(self, tenant: str, once: Once) -> Published | None:
        """What a write with this idempotency key was answered; raises `Unprocessable` where it was another write."""
        with self._database.read() as connection:
            return replays.recalled(connection, tenant, once, self._clock(), self._parse)
