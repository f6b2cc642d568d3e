"""What only a database server can do: be away, come back, and be shared by processes from the first moment."""

import asyncio
import multiprocessing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from serving.errors import NotReady
from serving.registry.database import Database
from serving.registry.tables import METADATA
from tests.serving.registry.given import open_registry
from tests.serving.registry.test_crashes import publish_own_and_shared

SERVER = multiprocessing.get_context("forkserver")


@pytest.fixture
def url(cluster):
    return cluster.create()


def test_an_empty_database_becomes_the_schema_of_the_tables(url):
    database = Database.open(url)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


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
