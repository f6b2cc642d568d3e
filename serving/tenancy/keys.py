"""Keys, callers and scopes: who asks, and what the key may do.

A key is `ck_<id>_<secret>`. All keys are held in memory (hashes only) and followed by deltas, so that a request makes
no SQL call of its own, a flood of wrong keys makes few, and a revocation is seen within a second. Where SQL does not
answer, one look has to wait for that: from then on known keys are good at once, and SQL is asked in the background
until it answers.
"""

import asyncio
import hashlib
import hmac
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass

from adapters.errors import InvalidName
from adapters.refs import parse_name
from serving.errors import NotReady, Unauthenticated, Unprocessable
from serving.logs import log
from serving.registry.database import Database
from serving.tenancy.store import KeyStore, StoredKey

# admin: tenants, quotas, everybody's keys and audit; it reads no tenant's packages
SCOPES = frozenset({"predict", "publish", "operate", "admin", "metrics"})
DEFAULT_TENANT = "default"

_TOKEN = re.compile(r"ck_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_FRESH_S = 0.5  # how long what is held is taken for the present
_UNKNOWN_S = 0.05  # the same for a key that is not held: a key made elsewhere works soon, a flood costs 20 reads/s
_PATIENCE_S = 0.25  # how long requests wait for a reading, from its begin; then SQL does not answer
_STALE_S = 600.0  # how long known keys are good while SQL is away
_MAX_LABEL = 200
_MAX_GRACE_S = 90 * 86_400.0


@dataclass(frozen=True)
class Caller:
    """Who asks: a tenant, the scopes of the key, and the key's id (for the audit)."""

    tenant: str
    scopes: frozenset[str]
    key_id: str


@dataclass(frozen=True)
class KeyRecord:
    """A key as an operator may see it."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    label: str
    created: float
    revoked: bool
    expires: float | None = None  # UTC seconds; None is never


@dataclass(frozen=True)
class NewKey:
    """A key just made; `secret` is shown once."""

    record: KeyRecord
    secret: str


KEYLESS = Caller(DEFAULT_TENANT, SCOPES, "keyless")


class Keyring:
    """The keys as one gateway knows them. Belongs to one event loop; SQL is asked in a thread."""

    def __init__(
        self,
        database: Database,
        *,
        loopback_only: bool,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`loopback_only`: the service can be reached from this machine only, so that it may run without keys.

        `clock` tells how old what is held is; `wall` (UTC seconds) tells which keys have expired.
        """
        self._store = KeyStore(database, wall)
        self._loopback_only = loopback_only
        self._clock = clock
        self._wall = wall
        self._held: dict[str, StoredKey] = {}
        self._keyed = False  # whether any key was ever seen: a registry that forgets them opens no door
        self._revision = -1  # nothing read yet
        self._as_of = float("-inf")  # when what is held was read
        self._asked = float("-inf")  # when SQL was last asked, answered or not
        self._reading: asyncio.Task[None] | None = None
        self._calling: asyncio.Task[None] | None = None  # asks SQL, which does not answer, until it does

    async def start(self) -> None:
        """Read the keys ahead of the first request, where SQL answers."""
        await self._reread()

    @property
    def keyless(self) -> bool:
        """Whether there never were keys since the start, so that loopback callers may do all as tenant `default`."""
        return self._loopback_only and not self._keyed

    async def authenticate(self, token: str | None) -> Caller:
        """The caller of a bearer token; a keyless service answers as tenant `default`.

        Raises `Unauthenticated`, or `NotReady` while the keys can not be read.
        """
        await self._follow(_FRESH_S)
        if self.keyless:
            return KEYLESS
        match = _TOKEN.fullmatch(token or "")
        if match is None:
            raise Unauthenticated("send a key: 'Authorization: Bearer ck_...'")
        if match[1] not in self._held:
            await self._follow(_UNKNOWN_S)
        key = self._held.get(match[1])
        if key is None and (self._calling is not None or self._as_of < self._asked):
            raise _unreadable()  # it may be a new key: nobody can tell now
        # An unknown id costs the same work as a wrong secret.
        good = hmac.compare_digest(_hash(match[2]), key.secret_sha256 if key else _hash(""))
        if key is None or not good or not key.live(self._wall()):
            raise Unauthenticated("this key is not known, was revoked, or has expired")
        return Caller(key.tenant, key.scopes, key.key_id)

    async def create(
        self, tenant: str, scopes: frozenset[str], label: str, *, expires: float | None = None, by: str = "api"
    ) -> NewKey:
        """Make a key, good until `expires` (UTC seconds); the secret is in the answer and nowhere else.

        `by` is whom the audit names. Raises `Unprocessable`, and `Conflict` where the label has two live keys.
        """
        made = await asyncio.to_thread(create_key, self._store, tenant, scopes, label, by=by, expires=expires)
        await self._reread()
        return made

    async def rotate(
        self, tenant: str, key_id: str, grace_s: float, *, by: str = "api", within: frozenset[str] | None = None
    ) -> NewKey:
        """Make a key with the scopes and label of another one, which ends after `grace_s` seconds.

        Raises `NotFound`, `Unprocessable`, `Forbidden` for a key that may do more than `within` (None: whatever it
        may), and `Conflict` for one that is not good or was rotated before.
        """
        made = await asyncio.to_thread(rotate_key, self._store, tenant, key_id, grace_s, by=by, within=within)
        await self._reread()
        return made

    async def keys(self, tenant: str) -> Sequence[KeyRecord]:
        """The tenant's keys, oldest first, without secrets."""
        return [record_of(key) for key in await asyncio.to_thread(self._store.of, tenant)]

    async def revoke(self, tenant: str, key_id: str, *, by: str = "api", within: frozenset[str] | None = None) -> None:
        """Revoke a key; raises as `rotate` does. Every gateway refuses it within a second."""
        await asyncio.to_thread(self._store.revoke, tenant, key_id, by, within)
        await self._reread()

    async def _follow(self, max_age_s: float) -> None:
        """Hold keys that are at most so old, where SQL answers; older ones for a while where it does not."""
        now = self._clock()
        if now - self._as_of <= max_age_s:
            return
        if self._calling is None:  # else nobody waits for SQL
            if self._reading is None and now - self._asked > max_age_s:
                self._begin_read()
            await self._wait()
        if self._clock() - self._as_of > _STALE_S:
            raise _unreadable()

    async def _wait(self) -> None:
        """Until the reading that runs, if one does, has ended or has taken too long."""
        if self._reading is not None:
            left = max(0.0, _PATIENCE_S - (self._clock() - self._asked)) if self._revision >= 0 else None
            done, _ = await asyncio.wait({self._reading}, timeout=left)
            if not done:
                self._unanswered("it takes too long")

    async def _reread(self) -> None:
        """Read what was just written: a read that began before may have missed it."""
        if self._reading is not None:
            await asyncio.wait({self._reading})
        await asyncio.wait({self._reading or self._begin_read()})

    def _begin_read(self) -> asyncio.Task[None]:
        self._asked = self._clock()
        self._reading = asyncio.create_task(self._read(self._asked), context=Context())  # it is no one request's
        return self._reading

    async def _read(self, began: float) -> None:
        try:
            held, seen = self._held, self._revision
            revision, changed = await asyncio.to_thread(self._store.since, seen)
            if revision < seen:  # a standby took over, and had not heard of the last writes
                log("tenancy", "the registry went back", level=logging.ERROR, seen=seen, now=revision)
                held, (revision, changed) = {}, await asyncio.to_thread(self._store.since, -1)
        except NotReady as error:
            self._unanswered(error.detail)
        else:
            self._held = held | {key.key_id: key for key in changed}
            self._keyed = self._keyed or bool(self._held)
            self._revision, self._as_of = revision, began
        finally:
            self._reading = None

    def _unanswered(self, why: str) -> None:
        """SQL does not answer: no request waits for it from here on, and it is asked until it does."""
        if self._calling is None:
            log("tenancy", f"the keys can not be read: {why}", level=logging.WARNING, serving_revision=self._revision)
            self._calling = asyncio.create_task(self._call(), context=Context())

    async def _call(self) -> None:
        """Ask until the keys are fresh: whoever comes after that is answered by what SQL says."""
        try:
            while self._clock() - self._as_of > _FRESH_S:
                if self._reading is None:
                    await asyncio.sleep(_FRESH_S)
                await asyncio.wait({self._reading or self._begin_read()})
        finally:
            self._calling = None
        log("tenancy", "the keys are read again", serving_revision=self._revision)


def create_key(
    store: KeyStore, tenant: str, scopes: frozenset[str], label: str, *, by: str, expires: float | None = None
) -> NewKey:
    """Make a key without HTTP (`chorus key create --data`): the first key of a service.

    Raises `Unprocessable`, and `Conflict` where the label has two live keys.
    """
    refuse_bad_tenant(tenant)
    _check_request(scopes, label)
    if expires is not None and not (math.isfinite(expires) and expires > store.now()):
        raise Unprocessable("a key expires in the future", code="invalid_expiry", pointer="/expires")
    key_id, secret = _drawn()
    stored = store.add(key_id, _hash(secret), tenant=tenant, scopes=scopes, label=label, by=by, expires=expires)
    return NewKey(record_of(stored), f"ck_{key_id}_{secret}")


def rotate_key(
    store: KeyStore, tenant: str, key_id: str, grace_s: float, *, by: str, within: frozenset[str] | None = None
) -> NewKey:
    """Put a new key in another one's place; see `Keyring.rotate`."""
    if not 0.0 <= grace_s <= _MAX_GRACE_S:
        raise Unprocessable(f"the grace is 0 to {_MAX_GRACE_S:.0f} seconds", code="invalid_grace", pointer="/grace_s")
    new_id, secret = _drawn()
    hashed = _hash(secret)
    stored = store.rotate(tenant, key_id, new_id=new_id, secret_sha256=hashed, grace_s=grace_s, by=by, within=within)
    return NewKey(record_of(stored), f"ck_{new_id}_{secret}")


def record_of(key: StoredKey) -> KeyRecord:
    """A key without the hash of its secret."""
    return KeyRecord(key.key_id, key.tenant, key.scopes, key.label, key.created, key.revoked, key.expires)


def refuse_bad_tenant(tenant: str, pointer: str = "/tenant") -> None:
    """Raise `Unprocessable` for what can not be the name of a tenant."""
    try:
        parse_name(tenant)
    except InvalidName as error:
        raise Unprocessable(f"{tenant!r} is no tenant: {error}", pointer=pointer) from error
    if "/" in tenant:
        raise Unprocessable(f"{tenant!r} is no tenant: use one segment of a-z 0-9 . _ -", pointer=pointer)


def _check_request(scopes: frozenset[str], label: str) -> None:
    if not scopes or scopes - SCOPES:
        wrong = ", ".join(sorted(scopes - SCOPES)) or "none given"
        raise Unprocessable(f"scopes are {', '.join(sorted(SCOPES))} ({wrong})", pointer="/scopes")
    if len(label) > _MAX_LABEL or not label.isprintable():
        raise Unprocessable(f"a label has at most {_MAX_LABEL} printable characters", pointer="/label")


def _drawn() -> tuple[str, str]:
    """A new id and secret."""
    return secrets.token_hex(6), secrets.token_urlsafe(32)


def _hash(secret: str) -> str:
    # The secret has 256 random bits: one SHA-256 is enough, and cheap under a flood of wrong keys.
    return hashlib.sha256(secret.encode()).hexdigest()


def _unreadable() -> NotReady:
    return NotReady("the keys can not be read now", code="registry_unavailable", retry_after=1.0)
