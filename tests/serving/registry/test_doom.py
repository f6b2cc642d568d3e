"""A mark on bytes is seen by who asks before, by who writes after, and by nobody else."""

import pytest

from serving.errors import NotReady
from serving.registry import doom
from serving.registry.blobs.store import BlobLost
from serving.registry.database import Database
from tests.serving.registry.given import digest_of

ONE, TWO = digest_of(b"one"), digest_of(b"two")


@pytest.fixture
def database(url):
    opened = Database.open(url)
    yield opened
    opened.close()


def asked(database, digest=ONE, now=0.0):
    with database.read() as connection:
        return doom.undoomed(connection, digest, now)


def mark(database, *digests, until):
    with database.write() as write:
        doom.mark(write, digests, until)


def written(database, still, now=0.0):
    with database.write() as write:
        still(write.connection, now)


def test_without_a_mark_everything_goes_on(database):
    still = asked(database)
    mark(database, TWO, until=100.0)
    written(database, still)


def test_a_standing_mark_refuses_who_asks_and_says_when(database):
    mark(database, ONE, TWO, until=100.0)
    with pytest.raises(NotReady) as caught:
        asked(database, now=58.0)
    assert (caught.value.code, caught.value.retry_after) == ("being_removed", 42.0)
    asked(database, now=100.0)


def test_a_mark_that_came_since_refuses_the_writer_while_it_stands(database):
    still = asked(database)
    mark(database, ONE, until=100.0)
    with pytest.raises(NotReady):
        written(database, still, now=99.0)


def test_a_mark_that_came_and_ended_since_has_the_bytes_kept_again(database):
    still = asked(database)
    mark(database, ONE, until=100.0)
    with database.write() as write:
        doom.settle(write, [ONE], 50.0)
    with pytest.raises(BlobLost):
        written(database, still, now=51.0)
    written(database, asked(database, now=51.0), now=51.0)


def test_a_second_mark_is_a_new_one(database):
    mark(database, ONE, until=10.0)
    still = asked(database, now=20.0)
    mark(database, ONE, until=15.0)
    with pytest.raises(BlobLost):
        written(database, still, now=20.0)


def test_ended_marks_are_forgotten_and_standing_ones_are_not(database):
    mark(database, ONE, until=10.0)
    mark(database, TWO, until=30.0)
    with database.write() as write:
        doom.forget(write, 20.0)
    asked(database, ONE, now=0.0)
    with pytest.raises(NotReady):
        asked(database, TWO, now=0.0)


def test_to_mark_nothing_is_no_error(database):
    mark(database, until=10.0)
