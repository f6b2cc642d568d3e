"""Whatever the order in which a publish and a collector of garbage do their steps, no row refers to bytes that are gone."""

import itertools
import os
import time

import pytest

from serving.errors import NotReady
from serving.registry.blobs.keeping import keep_and_write
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.store import BlobLost
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.garbage import collect
from tests.serving.registry.given import ACME, digest_of, report_of

DATA = b"published before, retired, and published again"
DIGEST = digest_of(DATA)
LATER = 10 * 86_400.0


@pytest.fixture
def database(url):
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def upload_of(blobs, data=DATA):
    upload = blobs.receive()
    upload.write(data)
    return upload


def forgotten(blobs):
    """The blob is there, old, and no version refers to it."""
    upload = upload_of(blobs)
    blobs.keep(upload)
    upload.discard()
    os.utime(blobs.path(DIGEST), (1.0, 1.0))


def publish(database, blobs, upload, *, before=lambda: None):
    """Keep, do `before`, and then refer to the bytes in one transaction, as a publish does."""
    catalog = Catalog(database)

    def write(still):
        before()
        return catalog.add_version(ACME, "adapter", "ada", report_of(DATA), promote=False, still=still)

    return keep_and_write(blobs, upload, write)


def gc(database, blobs, clock=lambda: time.time() + LATER):
    return collect(database, blobs, grace_s=86_400.0, unknown=True, clock=clock)


def test_a_blob_collected_between_its_keep_and_its_row_is_kept_again(database, blobs):
    forgotten(blobs)
    upload = upload_of(blobs)
    removed = []

    def collect_once():
        if not removed:
            removed.append(gc(database, blobs).removed)

    publish(database, blobs, upload, before=collect_once)
    upload.discard()
    assert removed == [1]
    assert blobs.verify(DIGEST) and gc(database, blobs).removed == 0
    assert blobs.verify(DIGEST)


def test_a_collector_that_saw_the_blob_forgotten_looks_again_before_it_deletes(database, blobs, monkeypatch):
    forgotten(blobs)
    upload = upload_of(blobs)
    listed = blobs.digests

    def then_published():
        found = list(listed())
        publish(database, blobs, upload)
        return iter(found)

    monkeypatch.setattr(blobs, "digests", then_published)
    assert gc(database, blobs).removed == 0
    upload.discard()
    assert blobs.verify(DIGEST)


def test_a_keep_makes_an_old_blob_too_young_to_collect(database, blobs):
    forgotten(blobs)
    upload = upload_of(blobs)
    blobs.keep(upload)
    upload.discard()
    done = gc(database, blobs, clock=time.time)
    assert (done.removed, done.young) == (0, 1) and blobs.verify(DIGEST)


def test_bytes_that_go_away_again_and_again_are_not_ready(blobs):
    upload = upload_of(blobs)
    tries = itertools.count()

    def write(still):
        blobs.path(DIGEST).unlink()
        next(tries)
        still()

    with pytest.raises(NotReady, match="removed at once"):
        keep_and_write(blobs, upload, write)
    upload.discard()
    assert next(tries) == 3


def test_other_bytes_that_are_lost_are_not_kept_again(blobs):
    upload, other = upload_of(blobs), digest_of(b"another")

    def write(still):
        still()
        raise BlobLost(other)

    with pytest.raises(BlobLost) as caught:
        keep_and_write(blobs, upload, write)
    upload.discard()
    assert caught.value.digest == other


def test_what_was_written_is_returned(blobs):
    upload = upload_of(blobs)
    assert keep_and_write(blobs, upload, lambda still: (still(), "written")[1]) == "written"
    upload.discard()
    assert blobs.verify(DIGEST)
