"""Keys in SQL: hashes of secrets, never secrets. Keys are revoked, not deleted, so that the audit keeps its names."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Row, insert, select, update

from serving.errors import NotFound
from serving.registry.database import Database, Write
from serving.registry.lookup import read_revision
from serving.registry.tables import AUDIT, KEYS


@dataclass(frozen=True)
class StoredKey:
    """One row: whose key, what it may do, and the SHA-256 of its secret."""

    key_id: str
    tenant: str
    secret_sha256: str
    scopes: frozenset[str]
    label: str
    created: float  # UTC seconds
    revoked: bool


class KeyStore:
    """The keys of all tenants. Methods are synchronous: call them from a thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def since(self, revision: int) -> tuple[int, tuple[StoredKey, ...]]:
        """The registry's revision, and the keys that changed after `revision`; -1 reads all."""
        with self._database.read() as connection:
            now = read_revision(connection)
            if now == revision:
                return now, ()
            rows = connection.execute(select(KEYS).where(KEYS.c.revision > revision))
            return now, tuple(_stored(row) for row in rows)

    def add(
        self, key_id: str, secret_sha256: str, *, tenant: str, scopes: frozenset[str], label: str, by: str
    ) -> StoredKey:
        """Store a new key; `by` is whom the audit names."""
        key = StoredKey(key_id, tenant, secret_sha256, scopes, label, self._clock(), revoked=False)
        with self._database.write() as write:
            values = vars(key) | {"scopes": " ".join(sorted(scopes)), "revision": write.revision}
            write.connection.execute(insert(KEYS).values(values))
            self._audit(write, tenant, key_id, "create_key", by=by, detail=" ".join(sorted(scopes)))
        return key

    def of(self, tenant: str) -> tuple[StoredKey, ...]:
        """The tenant's keys, oldest first, revoked ones included."""
        with self._database.read() as connection:
            rows = connection.execute(select(KEYS).where(KEYS.c.tenant == tenant))
            return tuple(sorted((_stored(row) for row in rows), key=lambda key: (key.created, key.key_id)))

    def revoke(self, tenant: str, key_id: str, by: str) -> None:
        """Revoke a key of the tenant; another tenant's is as absent as an unknown one. Twice is once."""
        with self._database.write() as write:
            mine = (KEYS.c.tenant == tenant, KEYS.c.key_id == key_id)
            revoked = write.connection.execute(select(KEYS.c.revoked).where(*mine)).scalar_one_or_none()
            if revoked is None:
                raise NotFound(f"no key {key_id!r}", code="key_not_found")
            if not revoked:
                write.connection.execute(update(KEYS).where(*mine).values(revoked=True, revision=write.revision))
                self._audit(write, tenant, key_id, "revoke_key", by=by, detail="")

    def _audit(self, write: Write, tenant: str, key_id: str, action: str, *, by: str, detail: str) -> None:
        row = insert(AUDIT).values(
            at=self._clock(),
            actor=by,
            tenant=tenant,
            space="key",
            name=key_id,
            action=action,
            subject=key_id,
            detail=detail,
        )
        write.connection.execute(row)


def _stored(row: Row[tuple[object, ...]]) -> StoredKey:
    return StoredKey(
        row.key_id, row.tenant, row.secret_sha256, frozenset(row.scopes.split()), row.label, row.created, row.revoked
    )
