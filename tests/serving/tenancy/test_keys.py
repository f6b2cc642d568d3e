import asyncio
import sqlite3

import pytest

from serving.errors import NotFound, NotReady, Unauthenticated, Unprocessable
from serving.registry.database import Database
from serving.tenancy.keys import KEYLESS, SCOPES, Keyring, create_key
from serving.tenancy.store import KeyStore

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
def database(tmp_path):
    opened = Database.open(f"sqlite:///{tmp_path / 'registry.sqlite'}")
    yield opened
    opened.close()


@pytest.fixture
def store(database):
    return KeyStore(database)


@pytest.fixture
def clock():
    return Clock()


def keyring_of(database, clock, *, loopback_only=True):
    keyring = Keyring(database, loopback_only=loopback_only, clock=clock)
    keyring._store = Sql(keyring._store)
    return keyring


def new_key(store, tenant="acme", scopes=PREDICT):
    return create_key(store, tenant, scopes, "a key", by="cli")


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


def test_the_secret_is_stored_nowhere(tmp_path, database, store):
    made = new_key(store)
    secret = made.secret.split("_", 2)[2]
    database.close()
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


def test_known_keys_go_on_for_a_while_when_sql_is_away_and_unknown_ones_are_not_denied(database, store, clock):
    made = new_key(store)

    async def scenario():
        keyring = keyring_of(database, clock)
        await keyring.authenticate(made.secret)
        keyring._store.away = True
        clock.now += 300
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        with pytest.raises(NotReady):
            await keyring.authenticate(f"ck_{'0' * 12}_{'x' * 43}")
        clock.now += 301
        with pytest.raises(NotReady):
            await keyring.authenticate(made.secret)
        keyring._store.away = False
        clock.now += 1
        assert (await keyring.authenticate(made.secret)).tenant == "acme"

    asyncio.run(scenario())


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


def test_a_locked_database_does_not_hold_requests_up(tmp_path, database, store, clock):
    made = new_key(store)

    async def scenario():
        keyring = keyring_of(database, clock)
        await keyring.authenticate(made.secret)
        blocker = sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        clock.now += 1
        assert (await keyring.authenticate(made.secret)).tenant == "acme"
        blocker.close()

    asyncio.run(scenario())
