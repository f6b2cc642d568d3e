"""What the step to marks knows of the database that it finds."""

import time

import pytest
from sqlalchemy import select, text

from serving.registry import database as databases
from serving.registry.database import Database
from serving.registry.tables import DOOMED, ORIGIN


@pytest.fixture
def before(bare_url):
    """A database as the release before left it, and what it may still do with it."""
    engine = databases._engine(bare_url)
    databases._migrate(engine, "0003")
    yield engine
    engine.dispose()


def origin(url):
    database = Database.open(url)
    with database.read() as connection:
        row = connection.execute(select(ORIGIN)).one()
        assert connection.execute(select(DOOMED)).all() == []
    database.close()
    return row


def test_a_registry_that_nobody_wrote_to_has_known_of_marks_from_the_beginning(bare_url, before):
    row = origin(bare_url)
    assert (row.since, row.oldest) == (0.0, "0004") and int(row.registry, 16) > 0
    assert origin(bare_url) == row


def test_in_a_registry_in_use_releases_overlap_from_now_on(bare_url, before):
    with before.begin() as connection:
        connection.execute(text("UPDATE meta SET revision = 8"))
    assert time.time() - 600.0 < origin(bare_url).since <= time.time()


def test_the_release_before_writes_on_beside_it(bare_url, before):
    Database.open(bare_url).close()
    with before.begin() as connection:
        connection.execute(text("UPDATE meta SET revision = revision + 1"))
        assert connection.execute(text("SELECT revision FROM meta")).scalar_one() == 1
