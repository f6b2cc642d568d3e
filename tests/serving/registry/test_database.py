import multiprocessing
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, select, text

from serving.errors import Conflict, NotReady
from serving.registry.database import Database
from serving.registry.lookup import read_revision
from serving.registry.tables import METADATA, NAMES
from tests.serving.registry.given import url_of


def revision_of(database):
    with database.read() as connection:
        return read_revision(connection)


def name_row(name, revision):
    return {"tenant": "t", "space": "adapter", "name": name, "next_version": 1, "revision": revision}


def test_an_empty_folder_becomes_the_schema_of_the_tables(tmp_path):
    Database.open(url_of(tmp_path / "new" / "folder")).close()
    engine = create_engine(url_of(tmp_path / "new" / "folder"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_a_present_database_is_kept(tmp_path):
    first = Database.open(url_of(tmp_path))
    with first.write() as write:
        write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
    first.close()
    second = Database.open(url_of(tmp_path))
    with second.read() as connection:
        assert connection.execute(select(NAMES.c.name)).scalars().all() == ["ada"]
    assert revision_of(second) == 1
    second.close()


def test_a_database_of_a_newer_release_is_refused(tmp_path):
    Database.open(url_of(tmp_path)).close()
    with sqlite3.connect(tmp_path / "registry.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(Conflict) as caught:
        Database.open(url_of(tmp_path))
    assert caught.value.code == "newer_registry"


def _open_and_write(url, barrier, answers):
    barrier.wait()
    database = Database.open(url)
    with database.write() as write:
        answers.put(write.revision)
    database.close()


def test_many_processes_may_start_on_one_empty_folder(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_open_and_write, args=(url_of(tmp_path), barrier, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    revisions = sorted(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert revisions == [1, 2, 3, 4]


def test_sqlite_is_set_for_durability(tmp_path):
    database = Database.open(url_of(tmp_path))
    with database.read() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_an_error_inside_undoes_the_write_and_its_revision(tmp_path):
    database = Database.open(url_of(tmp_path))
    with pytest.raises(ZeroDivisionError), database.write() as write:
        write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(select(NAMES)).all() == []
    assert revision_of(database) == 0
    database.close()


def test_a_reader_sees_one_state_while_a_writer_commits(tmp_path):
    database = Database.open(url_of(tmp_path))
    with database.read() as connection:
        assert read_revision(connection) == 0
        with database.write():
            pass
        assert read_revision(connection) == 0
    assert revision_of(database) == 1
    database.close()


def test_a_writer_that_cannot_get_the_lock_is_told_not_ready(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.registry.database._BUSY_MS", 20)
    database = Database.open(url_of(tmp_path))
    blocker = sqlite3.connect(tmp_path / "registry.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReady) as caught, database.write():
        pass
    assert (caught.value.code, caught.value.retry_after) == ("registry_unavailable", 1.0)
    assert revision_of(database) == 0  # readers go on
    blocker.close()
    with database.write() as write:
        assert write.revision == 1
    database.close()
