import asyncio
import sqlite3
import time

import pytest

from serving.errors import Conflict, Forbidden, NotFound, NotReady, Unauthenticated, Unprocessable
from serving.registry.database import Database
from serving.tenancy.keys import KEYLESS, SCOPES, Keyring, create_key, refuse_bad_tenant, rotate_key
from serving.tenancy.store import KeyStore
from tests.serving.registry.given import url_of
from tests.serving.virtual_time import run

PREDICT = frozenset({"predict"})


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Sql:
    """A key store that is counted, and cut off or stalled at will."""

    def __init__(self, store):
        self.store = store
        self.reads = 0
        self.away = False

    def since(self, revision):
        self.reads += 1
        if self.away:
            raise NotReady("away", code="registry_unavailable")
        return self.store.since(revision)

    def __getattr__(self, name):
        return getattr(self.store, name)


@pytest.fixture
def store(database):
    return KeyStore(database)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def in_a_file(tmp_path):
    opened = Database.open(url_of(tmp_path))
    yield opened
    opened.close()


def keyring_of(database, clock, *, loopback_only=True, wall=time.time):
    keyring = Keyring(database, loopback_only=loopback_only, clock=clock, wall=wall)
    keyring._store = Sql(keyring._store)
    return keyring


class SlowSql(Sql):
    """Readings that take so many seconds of the loop's time; while `away` they fail at the end of it."""

    takes = 0.0

    async def read(self, since, revision):
        away, self.reads = self.away, self.reads + 1
        await asyncio.sleep(self.takes)
        if away:
            raise NotReady("away", code="registry_unavailable")
        return self.store.since(revision)


@pytest.fixture
def slow(database, monkeypatch):
    """A keyring on the loop's clock, and its SQL: the thread that asks it takes virtual time."""

    def made():
        loop = asyncio.get_running_loop()
        keyring = Keyring(database, loopback_only=True, clock=loop.time)
        keyring._store = sql = SlowSql(keyring._store)
        monkeypatch.setattr(asyncio, "to_thread", sql.read)
        return keyring, sql

    return made


async def seconds(work):
    """How long it took."""
    began = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - began


def new_key(store, tenant="acme", scopes=PREDICT, **wishes):
    return create_key(store, tenant, scopes, "", by="cli", **wishes)


def test_a_key_is_its_tenant_and_scopes(database, store, clock):
    made = new_key(store)
    caller = asyncio.run(keyring_of(database, clock).authenticate(made.secret))
    assert (caller.tenant, caller.scopes, caller.key_id) == ("acme", PREDICT, made.record.key_id)


def test_wrong_keys_are_refused(database, store, clock):
    made, other = new_key(store), new_key(store)
    key_id, secret = made.record.key_id, made.secret
    wrong = [
        None,
        "",
        "ck_",
        secret[:-1],
        secret + "x",
        secret.upper(),
        secret.replace(key_id, other.record.key_id),
        secret.replace(key_id, "0" * 12),
        f"ck_{key_id}_{KeyStore(database).of('acme')[0].secret_sha256[:43]}",
        "ck_" + "x" * 100_000,
    ]

    async def scenario():
        keyring = keyring_of(database, clock)
        for token in wrong:
            with pytest.raises(Unauthenticated):
                await keyring.authenticate(token)
        assert (await keyring.authenticate(secret)).tenant == "acme"

    asyncio.run(scenario())


def test_the_secret_is_stored_nowhere(tmp_path, in_a_file):
    made = new_key(KeyStore(in_a_file))
    secret = made.secret.split("_", 2)[2]
    in_a_file.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert made.record.key_id.encode() in stored
    assert secret.encode() not in stored
    assert secret not in repr(made.record)


def test_without_keys_loopback_may_do_all_and_others_nothing(database, clock):
    async def scenario():
        local, open_to_all = keyring_of(database, clock), keyring_of(database, clock, loopback_only=False)
        assert await local.authenticate(None) == KEYLESS
        assert await local.authenticate("anything") == KEYLESS
        assert (KEYLESS.tenant, KEYLESS.scopes) == ("default", SCOPES)
        assert local.keyless
        assert not open_to_all.keyless
        with pytest.raises(Unauthenticated):
            await open_to_all.authenticate(None)

    asyncio.run(scenario())


def test_the_first_key_ends_the_keyless_time_and_its_revocation_does_not_bring_it_back(database, store, clock):
    async def scenario():
        keyring = keyring_of(database, clock)
        assert await keyring.authenticate(None) == KEYLESS
        made = new_key(store)  # on the command line, in another process
        clock.now += 1.0
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(None)
        assert not keyring.keyless
        await keyring.revoke("acme", made.record.key_id)
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(None)

    asyncio.run(scenario())


def test_requests_in_between_make_no_sql_call(database, store, clock):
    made = new_key(store)

    async def scenario():
        keyring = keyring_of(database, clock)
        await keyring.start()
        for _ in range(100):
            await keyring.authenticate(made.secret)
        assert keyring._store.reads == 1
        clock.now += 0.6
        await asyncio.gather(*(keyring.authenticate(made.secret) for _ in range(100)))
        assert keyring._store.reads == 2

    asyncio.run(scenario())


def test_a_revocation_elsewhere_is_seen_within_a_second(database, store, clock):
    made = new_key(store)

    async def scenario():
        keyring = keyring_of(database, clock)
        await keyring.authenticate(made.secret)
        store.revoke("acme", made.record.key_id, "elsewhere")
        clock.now += 0.99
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(made.secret)

    asyncio.run(scenario())


def test_a_revocation_here_is_seen_at_once(database, clock):
    async def scenario():
        keyring = keyring_of(database, clock)
        made = await keyring.create("acme", SCOPES, "mine")
        assert (await keyring.authenticate(made.secret)).scopes == SCOPES
        assert [(key.label, key.revoked) for key in await keyring.keys("acme")] == [("mine", False)]
        with pytest.raises(NotFound):
            await keyring.revoke("other", made.record.key_id)
        await keyring.revoke("acme", made.record.key_id)
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(made.secret)
        assert (await keyring.keys("acme"))[0].revoked

    asyncio.run(scenario())


def test_a_key_made_elsewhere_works_almost_at_once_and_a_flood_of_unknown_ones_costs_few_reads(database, store, clock):
    new_key(store)

    async def scenario():
        keyring = keyring_of(database, clock)
        await keyring.start()
        made = new_key(store)
        clock.now += 0.06
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        reads = keyring._store.reads
        unknown = [f"ck_{n:012x}_{'x' * 43}" for n in range(300)]
        answers = await asyncio.gather(*(keyring.authenticate(token) for token in unknown), return_exceptions=True)
        assert all(isinstance(answer, Unauthenticated) for answer in answers)
        assert keyring._store.reads == reads

    asyncio.run(scenario())


def test_known_keys_go_on_for_a_while_when_sql_is_away_and_unknown_ones_are_not_denied(slow, store):
    made = new_key(store)

    async def main():
        keyring, sql = slow()
        await keyring.authenticate(made.secret)
        sql.away = True
        await asyncio.sleep(300)
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        with pytest.raises(NotReady):
            await keyring.authenticate(f"ck_{'0' * 12}_{'x' * 43}")
        await asyncio.sleep(301)
        with pytest.raises(NotReady):
            await keyring.authenticate(made.secret)
        sql.away = False
        await asyncio.sleep(0.6)
        assert (await keyring.authenticate(made.secret)).tenant == "acme"

    run(main())


def test_while_sql_hangs_one_look_waits_for_it_and_then_nobody(slow, store):
    made = new_key(store)

    async def main():
        keyring, sql = slow()
        await keyring.start()
        sql.takes, sql.away = 6.0, True  # it accepts, and does not answer until its own patience ends
        await asyncio.sleep(1)
        assert await seconds(keyring.authenticate(made.secret)) == pytest.approx(0.25)
        for _ in range(200):
            assert await seconds(keyring.authenticate(made.secret)) == 0
            with pytest.raises(NotReady):  # it may be a new key, and is told so at once
                await keyring.authenticate(f"ck_{'0' * 12}_{'x' * 43}")
            await asyncio.sleep(0.1)
        assert sql.reads <= 1 + 20 / 6 + 1, "one question at a time"

    run(main())


def test_who_comes_while_a_look_hangs_waits_no_longer_than_its_first(slow, store):
    made = new_key(store)

    async def main():
        keyring, sql = slow()
        await keyring.start()
        sql.takes = 6.0
        await asyncio.sleep(1)

        async def after(wait):
            await asyncio.sleep(wait)
            return await seconds(keyring.authenticate(made.secret))

        assert await asyncio.gather(after(0), after(0.2), after(0.3)) == pytest.approx([0.25, 0.05, 0.0])

    run(main())


def test_an_outage_that_nobody_asks_in_is_over_as_soon_as_sql_answers(slow, store):
    made = new_key(store)

    async def main():
        keyring, sql = slow()
        await keyring.start()
        sql.takes, sql.away = 6.0, True
        await asyncio.sleep(1)
        await keyring.authenticate(made.secret)
        await asyncio.sleep(60)
        sql.takes, sql.away = 0.01, False
        await asyncio.sleep(7)  # the last of the hanging ones ends, and the next one is answered
        reads = sql.reads
        store.revoke("acme", made.record.key_id, "elsewhere")
        await asyncio.sleep(3600)
        assert sql.reads == reads, "and then nobody asks for nothing"
        with pytest.raises(Unauthenticated):  # an hour later the first to come is told the truth
            await keyring.authenticate(made.secret)

    run(main())


def test_a_key_revoked_in_an_outage_ends_once_sql_answers(slow, store):
    made = new_key(store)

    async def main():
        keyring, sql = slow()
        await keyring.start()
        sql.away = True
        await asyncio.sleep(1)
        store.revoke("acme", made.record.key_id, "elsewhere")
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        sql.away = False
        await asyncio.sleep(1)
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(made.secret)

    run(main())


def test_sql_that_is_always_slow_makes_nobody_wait_and_denies_no_new_key(slow, store):
    made = new_key(store)

    async def main():
        keyring, sql = slow()
        await keyring.start()
        sql.takes = 0.8
        await asyncio.sleep(1)
        await keyring.authenticate(made.secret)
        for _ in range(50):
            await asyncio.sleep(0.1)
            assert await seconds(keyring.authenticate(made.secret)) == 0
            with pytest.raises(NotReady):  # it may have been made since the last reading began
                await keyring.authenticate(f"ck_{'0' * 12}_{'x' * 43}")
        new = new_key(store)
        with pytest.raises(NotReady):
            await keyring.authenticate(new.secret)
        await asyncio.sleep(0.8 + 0.5 + 0.8)
        assert (await keyring.authenticate(new.secret)).tenant == "acme"

    run(main())


def test_nobody_is_let_in_before_the_keys_were_read(database, clock):
    async def scenario():
        keyring = keyring_of(database, clock)
        keyring._store.away = True
        await keyring.start()
        for token in (None, f"ck_{'0' * 12}_{'x' * 43}"):
            with pytest.raises(NotReady):
                await keyring.authenticate(token)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("tenant", "scopes", "label"),
    [
        ("Acme", PREDICT, ""),
        ("a/b", PREDICT, ""),
        ("", PREDICT, ""),
        ("acme", frozenset(), ""),
        ("acme", frozenset({"root"}), ""),
        ("acme", PREDICT, "x" * 201),
        ("acme", PREDICT, "a\0b"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(store, tenant, scopes, label):
    with pytest.raises(Unprocessable):
        create_key(store, tenant, scopes, label, by="cli")
    assert store.since(-1)[1] == ()


def test_every_key_is_another(database, store):
    made = [new_key(store) for _ in range(20)]
    assert len({key.secret for key in made}) == 20
    assert len({key.record.key_id for key in made}) == 20


def test_a_locked_database_does_not_hold_requests_up(tmp_path, in_a_file, clock):
    made = new_key(KeyStore(in_a_file))

    async def scenario():
        keyring = keyring_of(in_a_file, clock)
        await keyring.authenticate(made.secret)
        blocker = sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        clock.now += 1
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        blocker.close()

    asyncio.run(scenario())


def test_a_key_ends_at_its_expiry_without_a_word_from_sql(database, clock):
    wall = Clock()
    made = new_key(KeyStore(database, wall), expires=1010.0)
    assert made.record.expires == 1010.0

    async def scenario():
        keyring = keyring_of(database, clock, wall=wall)
        wall.now = 1009.9
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        wall.now = 1010.0
        with pytest.raises(Unauthenticated, match="expired"):
            await keyring.authenticate(made.secret)
        assert keyring._store.reads == 1

    asyncio.run(scenario())


def test_a_rotated_key_and_its_heir_are_both_good_for_the_grace(database, clock):
    wall = Clock()

    async def scenario():
        keyring = keyring_of(database, clock, wall=wall)
        old = await keyring.create("acme", PREDICT, "ci", by="admin")
        new = await keyring.rotate("acme", old.record.key_id, 60.0, by="admin")
        assert (new.record.scopes, new.record.label) == (PREDICT, "ci")
        for secret in (old.secret, new.secret):
            assert (await keyring.authenticate(secret)).scopes == PREDICT
        wall.now += 60.0
        with pytest.raises(Unauthenticated):
            await keyring.authenticate(old.secret)
        assert (await keyring.authenticate(new.secret)).key_id == new.record.key_id
        with pytest.raises(NotFound):
            await keyring.rotate("other", new.record.key_id, 60.0)

    asyncio.run(scenario())


@pytest.mark.parametrize("grace_s", [-1.0, float("nan"), float("inf"), 91 * 86_400.0])
def test_a_grace_has_an_end(store, grace_s):
    made = new_key(store)
    with pytest.raises(Unprocessable) as caught:
        rotate_key(store, "acme", made.record.key_id, grace_s, by="cli")
    assert caught.value.faults[0].pointer == "/grace_s"
    assert len(store.of("acme")) == 1


@pytest.mark.parametrize("expires", [1000.0, 999.0, float("nan"), float("inf")])
def test_a_key_that_has_expired_already_is_not_made(database, expires):
    store = KeyStore(database, Clock())
    with pytest.raises(Unprocessable) as caught:
        new_key(store, expires=expires)
    assert (caught.value.code, caught.value.faults[0].pointer) == ("invalid_expiry", "/expires")
    assert store.of("acme") == ()


def test_administration_is_a_scope_of_its_own_and_part_of_keyless_loopback(database, store, clock):
    made = new_key(store, scopes=frozenset({"admin"}))
    caller = asyncio.run(keyring_of(database, clock).authenticate(made.secret))
    assert caller.scopes == {"admin"}
    assert SCOPES == KEYLESS.scopes == {"predict", "publish", "operate", "admin", "metrics"}


def test_who_made_rotated_and_revoked_a_key_is_told(database, store, clock, catalog):
    async def scenario():
        keyring = keyring_of(database, clock)
        made = await keyring.create("acme", PREDICT, "", by="ann")
        await keyring.rotate("acme", made.record.key_id, 1.0, by="bob")
        await keyring.revoke("acme", made.record.key_id, by="cid")

    asyncio.run(scenario())
    entries = catalog.audit("acme", after=0, limit=9, space="key")[::-1]
    assert [(entry.action, entry.actor) for entry in entries] == [
        ("create_key", "ann"),
        ("create_key", "bob"),
        ("rotate_key", "bob"),
        ("revoke_key", "cid"),
    ]


def test_a_label_that_is_taken_twice_is_refused_by_name(store):
    for _ in range(2):
        create_key(store, "acme", PREDICT, "ci", by="cli")
    with pytest.raises(Conflict, match="'ci'"):
        create_key(store, "acme", PREDICT, "ci", by="cli")


@pytest.mark.parametrize("tenant", ["", "Acme", "a/b", "-x", "base"])
def test_a_tenant_is_one_segment(tenant):
    with pytest.raises(Unprocessable) as caught:
        refuse_bad_tenant(tenant, "/name")
    assert caught.value.faults[0].pointer == "/name"
    refuse_bad_tenant("public")


def test_a_ring_hands_out_no_key_that_may_do_more_than_whoever_asks(database, clock):
    async def scenario():
        keyring = keyring_of(database, clock)
        root = await keyring.create("acme", SCOPES, "", by="admin")
        for call in (
            keyring.rotate("acme", root.record.key_id, 0.0, within=PREDICT),
            keyring.revoke("acme", root.record.key_id, within=PREDICT),
        ):
            with pytest.raises(Forbidden, match="admin, metrics, operate, publish"):
                await call
        assert (await keyring.authenticate(root.secret)).scopes == SCOPES
        assert (await keyring.rotate("acme", root.record.key_id, 0.0, within=SCOPES)).record.scopes == SCOPES

    asyncio.run(scenario())


def test_a_registry_that_forgot_every_key_opens_no_door_on_loopback(database, tmp_path, clock):
    """Only a restart may find that there never were keys."""
    other = Database.open(url_of(tmp_path / "standby"))

    async def scenario():
        ring = keyring_of(database, clock)
        made = await ring.create("acme", PREDICT, "first")
        ring._store.store = KeyStore(other)
        for token in (None, made.secret, f"ck_{'0' * 12}_{'x' * 43}"):
            clock.now += 1.0
            with pytest.raises(Unauthenticated):
                await ring.authenticate(token)
        assert not ring._held
        assert not ring.keyless
        assert await keyring_of(other, clock).authenticate(None) == KEYLESS

    asyncio.run(scenario())
    other.close()


def test_a_registry_that_went_back_is_read_anew_and_the_keys_that_it_forgot_are_gone(database, tmp_path, clock):
    """A standby took over that had not heard of the last writes."""
    other = Database.open(url_of(tmp_path / "standby"))

    async def scenario():
        ring, standby = keyring_of(database, clock, loopback_only=False), KeyStore(other)
        first = await ring.create("acme", PREDICT, "first")
        lost = [await ring.create("acme", PREDICT, f"lost {number}") for number in range(2)]
        assert (await ring.authenticate(lost[0].secret)).key_id == lost[0].record.key_id
        kept = ring._held[first.record.key_id]
        stored = {"tenant": kept.tenant, "scopes": kept.scopes, "label": kept.label, "by": "api"}
        standby.add(kept.key_id, kept.secret_sha256, **stored)
        ring._store.store = standby
        clock.now += 1.0
        assert (await ring.authenticate(first.secret)).key_id == kept.key_id
        for made in lost:
            with pytest.raises(Unauthenticated):
                await ring.authenticate(made.secret)
        standby.revoke("acme", kept.key_id, "api")
        clock.now += 1.0
        with pytest.raises(Unauthenticated):
            await ring.authenticate(first.secret)

    asyncio.run(scenario())
    other.close()
