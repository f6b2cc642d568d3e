"""What only a database server can do: be away, stall, come back, and be shared by processes from the first moment."""

import asyncio
import multiprocessing
import sys
import threading

import pytest
from sqlalchemy import make_url, text

import serving.registry
from adapters.refs import parse_reference
from serving.errors import Conflict, NotReady
from serving.registry import postgres
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.snapshot import Directory
from serving.tenancy.keys import Keyring, create_key
from serving.tenancy.store import KeyStore
from tests.serving.registry.cluster import Cluster
from tests.serving.registry.given import ACME, open_registry, report_of
from tests.serving.registry.test_crashes import publish_own_and_shared

SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture
def url(cluster):
    return cluster.create()


def test_processes_that_start_and_publish_at_once_get_one_history(tmp_path, url):
    barrier, answers = SERVER.Barrier(3), SERVER.Queue()
    arguments = [(tmp_path, n, barrier, answers, url) for n in range(3)]
    processes = [SERVER.Process(target=publish_own_and_shared, args=args) for args in arguments]
    for process in processes:
        process.start()
    told = [item for _ in range(15) for item in answers.get(timeout=60)]
    for process in processes:
        process.join()
    registry = open_registry(tmp_path, url=url)
    held = {v.ref.version: v.ref.digest for v in registry.catalog.since(0).names["acme", "adapter", "ada"].versions}
    assert sorted(held) == list(range(1, 21))
    assert all(held[version] == digest for version, digest, _ in told)
    assert sum(created for _, _, created in told) == 20
    registry.database.close()


def test_serving_goes_on_while_the_server_is_away_and_writing_after_it_is_back(tmp_path, cluster, url):
    registry = open_registry(tmp_path, url=url)
    asyncio.run(registry.publish(b"one"))
    cluster.stop()
    with pytest.raises(NotReady):
        asyncio.run(registry.publish(b"two"))
    with pytest.raises(NotReady):
        Database.open(url)
    assert [record.name for record in registry.directory.names("acme", "adapter")] == ["ada"]
    cluster.start()
    assert asyncio.run(registry.publish(b"two")).version.ref.version == 2
    registry.database.close()


def bounded(url, statement_s):
    """A migrated database whose statements end after so long."""
    Database.open(url).close()
    return Database(postgres.connect(make_url(url), statement_s))


def test_the_driver_is_bound_by_name_whatever_the_url_says(url):
    database = Database.open(url.replace("postgresql+psycopg", "postgresql"))
    with database.read() as connection:
        shown = {
            name: connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("synchronous_commit", "statement_timeout", "idle_in_transaction_session_timeout")
        }
    assert shown == {
        "synchronous_commit": "on",
        "statement_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
    }
    database.close()


def test_without_the_driver_the_remedy_is_named_and_the_password_is_not(monkeypatch):
    monkeypatch.delitem(sys.modules, "serving.registry.postgres")
    monkeypatch.delattr(serving.registry, "postgres")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Conflict, match=r"install 'chorus\[postgres\]'") as caught:
        Database.open("postgresql://chorus:hunter2@127.0.0.1:1/registry")
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(postgres, "GRACE_S", 0.1)
    monkeypatch.setattr(postgres, "CONNECT_S", 2)  # the least that the driver takes


def test_a_server_that_stalls_is_given_up_and_found_again(cluster, url, impatient):
    database = bounded(url, 0.1)
    catalog = Catalog(database)
    assert catalog.since(0).revision == 0
    with cluster.stalled(), pytest.raises(NotReady):
        catalog.since(0)
    assert catalog.add_version(ACME, "adapter", "ada", report_of(b"one"), promote=False).value.version.ref.version == 1
    database.close()


def test_a_server_that_stalls_inside_of_a_write_leaves_nothing_of_it(cluster, url, impatient):
    database = bounded(url, 0.1)
    catalog = Catalog(database)
    with pytest.raises(NotReady), database.write() as write, cluster.stalled():
        write.connection.execute(text("UPDATE meta SET backbone_id = 'torn'"))
    with database.read() as connection:
        assert connection.execute(text("SELECT backbone_id FROM meta")).scalar_one() is None
    assert catalog.since(0).revision == 0
    database.close()


def test_writers_take_turns_whatever_isolation_the_database_has_by_default(url):
    database = Database.open(url)
    with database.write() as write:
        name = write.connection.execute(text("SELECT current_database()")).scalar_one()
        write.connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"))
    database.close()
    database, answers = Database.open(url), []

    def second():
        with database.write() as write:
            answers.append(write.revision)

    waiter = threading.Thread(target=second)
    with database.write() as first:
        waiter.start()
        await_lock(first.connection)
    waiter.join()
    assert answers == [first.revision + 1]
    with database.read() as connection:
        assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "repeatable read"
    database.close()


def await_lock(connection):
    """Until somebody waits for a row that this transaction has changed."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while not connection.execute(waiting).scalar_one():
        pass


def test_a_statement_that_waits_for_a_lock_ends_after_its_bound(url):
    database, other = bounded(url, 0.1), Database.open(url)
    with other.write(), pytest.raises(NotReady) as caught, database.write():
        pass
    assert caught.value.code == "registry_unavailable"
    with database.write() as write:
        assert write.revision == 2
    database.close()
    other.close()


def test_a_writer_that_hangs_loses_its_lock(url, monkeypatch):
    Database.open(url).close()  # migrated without haste: the bound below is of every transaction
    monkeypatch.setattr(postgres, "IDLE_S", 1.0)
    hanging = bounded(url, 5.0)
    other = Database.open(url)
    with pytest.raises(NotReady), hanging.write() as stuck:
        with other.write() as write:  # waits until the server has thrown the other one out
            assert write.revision == 1
        stuck.connection.execute(text("UPDATE meta SET backbone_id = 'late'"))
    with other.read() as connection:
        assert connection.execute(text("SELECT backbone_id FROM meta")).scalar_one() is None
    hanging.close()
    other.close()


class Followed(Directory):
    """Says when it reads, and when it has read again."""

    def __init__(self, catalog):
        super().__init__(catalog, interval_s=0.01)
        self.missed = 0
        self.back = asyncio.Event()

    async def refresh(self, at_least=None):
        try:
            revision = await super().refresh(at_least)
        except NotReady:
            self.missed += 1
            raise
        if self.missed:
            self.back.set()
        return revision


def test_names_and_keys_are_served_through_an_absence_and_followed_at_the_first_try_after_it(cluster, url):
    database = Database.open(url)
    catalog = Catalog(database)
    made = create_key(KeyStore(database), "acme", frozenset({"predict"}), "", by="cli")
    catalog.add_version(ACME, "adapter", "ada", report_of(b"one"), promote=True)

    async def scenario():
        directory, keyring = Followed(catalog), Keyring(database, loopback_only=True)
        await asyncio.gather(directory.start(), keyring.start())
        cluster.stop()
        while directory.missed < 5:  # tries, not seconds: nothing waits longer the longer it lasts
            resolved = await directory.resolve("acme", "adapter", parse_reference("ada"))
            assert resolved.version.ref.version == 1
            assert (await keyring.authenticate(made.secret)).tenant == "acme"
            with pytest.raises(NotReady):
                await directory.resolve("acme", "adapter", parse_reference("unknown"))
        cluster.start()
        missed = directory.missed
        await directory.back.wait()
        assert directory.missed <= missed + 1  # one try may have begun before the server was back
        await asyncio.to_thread(catalog.add_version, ACME, "adapter", "bob", report_of(b"two"), promote=False)
        assert (await directory.resolve("acme", "adapter", parse_reference("bob"))).version.ref.version == 1
        await directory.stop()

    asyncio.run(scenario())
    database.close()


def test_without_a_servers_binaries_the_tests_on_it_fail_and_say_what_to_install(monkeypatch):
    monkeypatch.setattr("tests.serving.registry.cluster._BINARIES", None)
    with pytest.raises(AssertionError, match="apt-get install postgresql"):
        Cluster()
