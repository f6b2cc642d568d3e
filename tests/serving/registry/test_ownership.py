"""A store is claimed once, by the first service that starts on it, and whoever else collects there is refused."""

import logging

import pytest

from serving.errors import Conflict
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.refusals import away
from serving.registry.database import Database
from serving.registry.ownership import claim, id_of, refuse_foreign


@pytest.fixture
def database(bare_url):
    opened = Database.open(bare_url)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def test_every_database_has_an_id_of_its_own_that_stays(database, other, bare_url):
    again = Database.open(bare_url)
    assert id_of(database) == id_of(again) != id_of(other)
    assert len(id_of(database)) == 32
    again.close()


def test_who_claims_may_collect_and_nobody_else(database, other, blobs, caplog):
    with pytest.raises(Conflict, match="start the service once") as caught:
        refuse_foreign(database, blobs)
    assert caught.value.code == "other_registry"
    claim(database, blobs)
    refuse_foreign(database, blobs)
    with caplog.at_level(logging.WARNING):
        claim(database, blobs)
        assert caplog.messages == []
        claim(other, blobs)
    assert caplog.messages == ["the blob store belongs to another registry: nothing is collected from here"]
    with pytest.raises(Conflict, match=f"belong to the registry {id_of(database)}, and this is {id_of(other)}"):
        refuse_foreign(other, blobs)
    refuse_foreign(database, blobs)


def test_a_store_that_is_away_at_the_start_is_claimed_at_the_next_one(database, blobs, monkeypatch, caplog):
    def gone():
        raise away("no route")

    monkeypatch.setattr(blobs, "owner", gone)
    with caplog.at_level(logging.WARNING):
        claim(database, blobs)
    assert caplog.messages == ["the blob store could not be claimed"]
    monkeypatch.undo()
    claim(database, blobs)
    assert blobs.owner() == id_of(database)
