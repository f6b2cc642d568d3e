"""Whatever the order in which a publish and a collector of garbage do their steps, no row refers to bytes that are gone."""

import itertools
import os
import time

import pytest

from serving.errors import NotReady
from serving.registry.blobs.keeping import keep_and_write
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.objects import ObjectBlobs
from serving.registry.blobs.refusals import away
from serving.registry.blobs.store import BlobLost
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.garbage import collect
from serving.registry.ownership import claim
from tests.serving.registry.blobs.fake_bucket import FakeBucket
from tests.serving.registry.given import ACME, digest_of, report_of

DATA = b"published before, retired, and published again"
DIGEST = digest_of(DATA)
DAY = 86_400.0


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


def publish(database, blobs, *, before=lambda: None, clock=time.time):
    """Keep, do `before`, and then refer to the bytes in one transaction, as a publish does."""
    catalog, upload = Catalog(database, clock=clock), upload_of(blobs)

    def write(still):
        before()
        return catalog.add_version(ACME, "adapter", "ada", report_of(DATA), promote=False, still=still)

    try:
        return keep_and_write(catalog.undoomed, blobs, upload, write)
    finally:
        upload.discard()


def gc(database, blobs, clock=time.time):
    claim(database, blobs)
    return collect(database, blobs, grace_s=DAY, clock=clock)


def test_a_blob_collected_between_its_keep_and_its_row_is_kept_again(database, blobs):
    removed = []

    def collect_once():
        if not removed:
            os.utime(blobs.path(DIGEST), (1.0, 1.0))  # a store whose clock is wrong: its age does not save it
            removed.append(gc(database, blobs).removed)

    publish(database, blobs, before=collect_once)
    assert removed == [1]
    assert blobs.verify(DIGEST) and gc(database, blobs).removed == 0
    assert blobs.verify(DIGEST)


def test_a_collector_that_saw_the_blob_forgotten_looks_again_before_it_deletes(database, blobs, monkeypatch):
    forgotten(blobs)
    listed = blobs.digests

    def then_published():
        found = list(listed())
        publish(database, blobs)
        os.utime(blobs.path(DIGEST), (1.0, 1.0))
        return iter(found)

    monkeypatch.setattr(blobs, "digests", then_published)
    assert gc(database, blobs).removed == 0
    assert blobs.verify(DIGEST)


def test_a_keep_makes_an_old_blob_too_young_to_collect(database, blobs):
    forgotten(blobs)
    upload = upload_of(blobs)
    blobs.keep(upload)
    upload.discard()
    done = gc(database, blobs)
    assert (done.removed, done.young) == (0, 1) and blobs.verify(DIGEST)


def test_bytes_that_are_being_deleted_are_refused_until_that_is_over(database, blobs, monkeypatch):
    forgotten(blobs)
    delete, refused = blobs.delete, []

    def slowly(digest, *, before):
        with pytest.raises(NotReady, match="publish them in") as caught:
            publish(database, blobs)
        refused.append(caught.value)
        return delete(digest, before=before)

    monkeypatch.setattr(blobs, "delete", slowly)
    assert gc(database, blobs).removed == 1
    assert refused[0].code == "being_removed" and 1.0 <= refused[0].retry_after <= 60.0
    assert publish(database, blobs).value.created and blobs.verify(DIGEST)


class LateBucket(FakeBucket):
    """Hears of a deletion, answers nothing, and carries it out when `catch_up` is called."""

    late = ()

    def delete(self, key):
        self.late = (*self.late, key)
        raise away("TimeoutError")

    def catch_up(self):
        for key in self.late:
            super().delete(key)


def test_a_deletion_that_a_bucket_carries_out_late_meets_nobodys_bytes(database, tmp_path):
    now = [time.time() - 10 * DAY]
    bucket = LateBucket(clock=lambda: now[0])
    blobs = ObjectBlobs(bucket, tmp_path / "a", budget=1 << 30, settle_s=120.0, clock=lambda: now[0])
    upload = upload_of(blobs)
    blobs.keep(upload)
    upload.discard()
    now[0] += 10 * DAY
    with pytest.raises(NotReady, match="TimeoutError"):
        gc(database, blobs, clock=lambda: now[0])
    with pytest.raises(NotReady, match="being removed") as caught:
        publish(database, blobs, clock=lambda: now[0])
    assert caught.value.retry_after >= 120.0
    bucket.catch_up()
    now[0] += caught.value.retry_after
    publish(database, blobs, clock=lambda: now[0])
    assert blobs.state(DIGEST) == "sound"


def test_no_request_is_made_to_the_store_while_others_wait_to_write(database, tmp_path):
    bucket = FakeBucket(clock=time.time)
    blobs = ObjectBlobs(bucket, tmp_path / "a", budget=1 << 30)
    catalog, upload, asked = Catalog(database), upload_of(blobs), []

    def write(still):
        asked.append(len(bucket.asked))
        done = catalog.add_version(ACME, "adapter", "ada", report_of(DATA), promote=False, still=still)
        asked.append(len(bucket.asked))
        return done

    keep_and_write(catalog.undoomed, blobs, upload, write)
    upload.discard()
    assert asked[0] == asked[1] > 0


def test_bytes_that_go_away_again_and_again_are_not_ready(blobs):
    upload = upload_of(blobs)
    tries = itertools.count()

    def write(_):
        next(tries)
        raise BlobLost(DIGEST)

    with pytest.raises(NotReady, match="removed at once"):
        keep_and_write(str, blobs, upload, write)
    upload.discard()
    assert next(tries) == 3


def test_other_bytes_that_are_lost_are_not_kept_again(blobs):
    upload, other = upload_of(blobs), digest_of(b"another")

    def write(_):
        raise BlobLost(other)

    with pytest.raises(BlobLost) as caught:
        keep_and_write(str, blobs, upload, write)
    upload.discard()
    assert caught.value.digest == other


def test_it_is_asked_before_the_bytes_are_kept_and_the_answer_goes_to_the_writer(blobs):
    upload = upload_of(blobs)

    def begin(digest):
        assert not blobs.present(digest)
        return "asked"

    assert keep_and_write(begin, blobs, upload, lambda still: f"{still}, written") == "asked, written"
    upload.discard()
    assert blobs.verify(DIGEST)
