import multiprocessing
import sqlite3

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, exc, insert, select, text

from serving.errors import Conflict, NotReady
from serving.registry import database as databases
from serving.registry.database import Database
from serving.registry.lookup import read_revision
from serving.registry.tables import METADATA, NAMES
from tests.serving.registry.given import url_of


def revision_of(database):
    with database.read() as connection:
        return read_revision(connection)


def name_row(name, revision):
    return {"tenant": "t", "space": "adapter", "name": name, "next_version": 1, "revision": revision}


def test_an_empty_database_becomes_the_schema_of_the_tables(bare_url):
    Database.open(bare_url).close()
    engine = create_engine(bare_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_a_folder_that_is_not_there_is_made(tmp_path):
    Database.open(url_of(tmp_path / "new" / "folder")).close()
    assert (tmp_path / "new" / "folder" / "registry.sqlite").is_file()


def test_a_present_database_is_kept(bare_url):
    first = Database.open(bare_url)
    with first.write() as write:
        write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
    first.close()
    second = Database.open(bare_url)
    with second.read() as connection:
        assert connection.execute(select(NAMES.c.name)).scalars().all() == ["ada"]
    assert revision_of(second) == 1
    second.close()


def later(database, oldest):
    """What a later release makes of a database, as its first schema for other releases names `oldest`."""
    with database.write() as write:
        write.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        write.connection.execute(text("UPDATE origin SET oldest = :oldest"), {"oldest": oldest})
    database.close()


def test_a_database_of_a_newer_release_that_is_not_for_this_one_is_refused(bare_url):
    later(Database.open(bare_url), "9998")
    with pytest.raises(Conflict) as caught:
        Database.open(bare_url)
    assert caught.value.code == "newer_registry"


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_database_of_a_newer_release_that_only_added_is_served_on(bare_url, upgrade):
    later(Database.open(bare_url), "0004")
    database = Database.open(bare_url, upgrade=upgrade)
    with database.write() as write:
        write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
        assert write.connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"
    database.close()


def test_a_database_that_a_release_before_is_using_is_not_migrated_by_who_only_tends_it(bare_url):
    engine = databases._engine(bare_url)
    databases._migrate(engine, "0003")
    with pytest.raises(Conflict, match="schema 0003 of an earlier release") as caught:
        Database.open(bare_url, upgrade=False)
    assert caught.value.code == "older_registry"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0003"
    engine.dispose()
    Database.open(bare_url).close()
    Database.open(bare_url, upgrade=False).close()


def test_who_tends_a_new_database_makes_it(bare_url):
    database = Database.open(bare_url, upgrade=False)
    assert revision_of(database) == 0
    database.close()


def _open_and_write(url, barrier, answers):
    barrier.wait()
    database = Database.open(url)
    with database.write() as write:
        answers.put(write.revision)
    database.close()


def test_many_processes_may_start_on_one_empty_database(bare_url):
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_open_and_write, args=(bare_url, barrier, answers)) for _ in range(4)]
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


def test_an_error_inside_undoes_the_write_and_its_revision(url):
    database = Database.open(url)
    with pytest.raises(ZeroDivisionError), database.write() as write:
        write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
        raise ZeroDivisionError
    with database.read() as connection:
        assert connection.execute(select(NAMES)).all() == []
    assert revision_of(database) == 0
    database.close()


def test_a_reader_sees_one_state_while_a_writer_commits(url):
    database = Database.open(url)
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


def test_a_reader_sees_no_half_of_a_write(url):
    database = Database.open(url)
    with database.write() as write:
        write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
        with database.read() as connection:
            assert connection.execute(select(NAMES)).all() == []
            assert read_revision(connection) == 0
    assert revision_of(database) == 1
    database.close()


def test_a_bug_of_our_own_is_no_absent_database(url):
    database = Database.open(url)
    with pytest.raises(exc.IntegrityError), database.write() as write:
        for _ in range(2):
            write.connection.execute(insert(NAMES).values(name_row("ada", write.revision)))
    assert revision_of(database) == 0
    database.close()
