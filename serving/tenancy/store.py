"""Keys in SQL: hashes of secrets, never secrets. Keys are revoked, not deleted, so that the audit keeps its names."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Row, Update, insert, select, update

from serving.errors import Conflict, Forbidden, NotFound
from serving.registry.change import Change
from serving.registry.database import Database
from serving.registry.lookup import read_revision
from serving.registry.tables import KEYS

LIVE_KEYS = 2  # of one tenant with one label: the one in use, and the one that takes its place


@dataclass(frozen=True)
class StoredKey:
    """One row: whose key, what it may do and until when, and the SHA-256 of its secret."""

    key_id: str
    tenant: str
    secret_sha256: str
    scopes: frozenset[str]
    label: str
    created: float  # UTC seconds
    revoked: bool
    expires: float | None = None  # UTC seconds; None is never
    rotated_from: str | None = None  # the key whose place it takes

    def live(self, now: float) -> bool:
        """Whether the key is good at a time (UTC seconds)."""
        return not self.revoked and (self.expires is None or now < self.expires)


class KeyStore:
    """The keys of all tenants. Methods are synchronous: call them from a thread."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """The time by which keys expire, in UTC seconds."""
        return self._clock()

    def since(self, revision: int) -> tuple[int, tuple[StoredKey, ...]]:
        """The registry's revision, and the keys that changed after `revision`; -1 reads all."""
        with self._database.read() as connection:
            now = read_revision(connection)
            if now == revision:
                return now, ()
            rows = connection.execute(select(KEYS).where(KEYS.c.revision > revision))
            return now, tuple(_stored(row) for row in rows)

    def add(
        self,
        key_id: str,
        secret_sha256: str,
        *,
        tenant: str,
        scopes: frozenset[str],
        label: str,
        by: str,
        expires: float | None = None,
    ) -> StoredKey:
        """Store a new key; `by` is whom the audit names. Raises `Conflict` where the label has two live keys."""
        with self._change(by) as change:
            key = StoredKey(key_id, tenant, secret_sha256, scopes, label, change.at, revoked=False, expires=expires)
            self._insert(change, key)
        return key

    def of(self, tenant: str) -> tuple[StoredKey, ...]:
        """The tenant's keys, oldest first, revoked and expired ones included."""
        with self._database.read() as connection:
            return _in_order(connection.execute(select(KEYS).where(KEYS.c.tenant == tenant)).all())

    def rotate(
        self,
        tenant: str,
        key_id: str,
        *,
        new_id: str,
        secret_sha256: str,
        grace_s: float,
        by: str,
        within: frozenset[str] | None = None,
    ) -> StoredKey:
        """Store a key that takes another one's place, which ends after `grace_s` seconds; both or nothing.

        It has the same scopes, label and length of life. `within` are the scopes of whoever asks, None for one who may
        do all. Raises `NotFound`, `Forbidden` for a key that may do more than these, and `Conflict` for a key that is
        not good any more or that was rotated before.
        """
        with self._change(by) as change:
            old = self._mine(change, tenant, key_id, within)
            if not old.live(change.at):
                raise Conflict(f"the key {key_id!r} was revoked or has expired: make a new one", code="key_not_live")
            heirs = [key for key in _held(change, tenant) if key.rotated_from == key_id]
            if live := [key.key_id for key in heirs if key.live(change.at)]:
                told = f"the key {key_id!r} was rotated to {live[0]!r} before: revoke that one first"
                raise Conflict(told, code="already_rotated")
            model = heirs[-1] if heirs else old  # the old one's own end is that of its grace by now
            expires = None if model.expires is None else change.at + model.expires - model.created
            new = StoredKey(
                new_id, tenant, secret_sha256, old.scopes, old.label, change.at, False, expires, rotated_from=key_id
            )
            self._insert(change, new)
            ends = change.at + grace_s
            ends = ends if old.expires is None else min(ends, old.expires)
            change.execute(_of(old).values(expires=ends, revision=change.revision))
            told_of: dict[str, Any] = {
                "before": {"expires": old.expires},
                "after": {"expires": ends, "rotated_to": new_id},
            }
            change.note((tenant, "key", key_id), "rotate_key", subject=key_id, **told_of)
        return new

    def revoke(self, tenant: str, key_id: str, by: str, within: frozenset[str] | None = None) -> None:
        """Revoke a key of the tenant; another tenant's is as absent as an unknown one. Twice is once.

        Raises `NotFound`, and `Forbidden` for a key that may do more than `within`, the scopes of whoever asks (None for
        one who may do all).
        """
        with self._change(by) as change:
            key = self._mine(change, tenant, key_id, within)
            if not key.revoked:
                change.execute(_of(key).values(revoked=True, revision=change.revision))
                told: dict[str, Any] = {"before": {"revoked": False}, "after": {"revoked": True}}
                change.note((tenant, "key", key_id), "revoke_key", subject=key_id, **told)

    def _mine(self, change: Change, tenant: str, key_id: str, within: frozenset[str] | None) -> StoredKey:
        query = select(KEYS).where(KEYS.c.tenant == tenant, KEYS.c.key_id == key_id)
        row = change.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"no key {key_id!r}", code="key_not_found")
        key = _stored(row)
        if beyond := key.scopes - (key.scopes if within is None else within):
            told = f"the key {key_id!r} may do more than the one that asks: {', '.join(sorted(beyond))}"
            raise Forbidden(f"{told}; ask with a key that may do so too, or with the scope admin")
        return key

    def _insert(self, change: Change, key: StoredKey) -> None:
        live = [
            other.key_id
            for other in _held(change, key.tenant)
            if other.label == key.label != "" and other.live(change.at)
        ]
        if len(live) >= LIVE_KEYS:
            told = f"the label {key.label!r} has {LIVE_KEYS} live keys ({', '.join(live)}): revoke one, or take another label"
            raise Conflict(told, code="too_many_keys")
        scopes = sorted(key.scopes)
        row = {**asdict(key), "scopes": " ".join(scopes), "revision": change.revision}
        change.execute(insert(KEYS).values(row))
        after = {"scopes": scopes, "label": key.label, "expires": key.expires}
        place = (key.tenant, "key", key.key_id)
        change.note(place, "create_key", subject=key.key_id, detail=row["scopes"], after=after)

    @contextmanager
    def _change(self, by: str) -> Iterator[Change]:
        with self._database.write() as write:
            yield Change(write, by, self._clock())


def _held(change: Change, tenant: str) -> tuple[StoredKey, ...]:
    """The tenant's keys, oldest first."""
    return _in_order(change.execute(select(KEYS).where(KEYS.c.tenant == tenant)).all())


def _in_order(rows: Sequence[Row[Any]]) -> tuple[StoredKey, ...]:
    return tuple(sorted((_stored(row) for row in rows), key=lambda key: (key.created, key.key_id)))


def _of(key: StoredKey) -> Update:
    return update(KEYS).where(KEYS.c.key_id == key.key_id)


def _stored(row: Row[Any]) -> StoredKey:
    return StoredKey(
        row.key_id,
        row.tenant,
        row.secret_sha256,
        frozenset(row.scopes.split()),
        row.label,
        row.created,
        row.revoked,
        row.expires,
        row.rotated_from,
    )
