"""Blobs in a bucket: verified on the way in and on the way out, whatever the bucket does at the n-th request."""

import errno
import random

import pytest

from serving.errors import NotReady
from serving.registry.blobs import objects
from serving.registry.blobs.objects import ObjectBlobs
from serving.registry.blobs.store import BlobLost, BlobRotten, key_of
from tests.serving.registry.blobs.fake_bucket import FAULTS, FLIPPED, REFUSED, FakeBucket
from tests.serving.registry.blobs.faults import Disk
from tests.serving.registry.given import digest_of

DATA = b"some bytes that are longer than one piece"
DIGEST, KEY = digest_of(DATA), key_of(digest_of(DATA))
HOUR = 3600.0


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(objects, "PIECE", 16)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bucket(clock):
    return FakeBucket(clock)


@pytest.fixture
def machine(tmp_path, bucket, clock):
    """Another machine with the same bucket, each time it is called."""
    made = iter(range(10**6))
    return lambda: ObjectBlobs(bucket, tmp_path / f"m{next(made)}", budget=1000, clock=clock)


def keep(blobs, data=DATA):
    upload = blobs.receive()
    try:
        upload.write(data)
        blobs.keep(upload)
    finally:
        upload.discard()


def leftovers(blobs):
    return [*blobs._uploads.folder.iterdir(), *blobs.check()]


def test_what_one_machine_kept_another_one_has(machine, bucket):
    keep(machine())
    other = machine()
    assert other.local(DIGEST).read_bytes() == DATA
    assert list(bucket.held) == [KEY]


def test_what_was_kept_here_is_not_brought_from_afar(machine, bucket):
    blobs = machine()
    keep(blobs)
    bucket.asked.clear()
    assert blobs.local(DIGEST).read_bytes() == DATA
    assert bucket.asked == []


def test_a_young_object_is_not_written_again_and_an_old_one_becomes_young(machine, bucket, clock):
    blobs = machine()
    keep(blobs)
    clock.now += 0.5 * HOUR
    bucket.asked.clear()
    keep(blobs)
    assert bucket.asked.count("put") == 1  # the one that found something there
    clock.now += HOUR
    keep(blobs)
    (stored,) = blobs.digests()
    assert stored.modified == clock.now


def test_an_upload_whose_file_changed_on_our_disk_overwrites_nothing(machine, bucket):
    blobs = machine()
    keep(blobs)
    upload = blobs.receive()
    upload.write(DATA)
    upload.flush()
    upload.path.write_bytes(b"changed")
    with pytest.raises(NotReady, match="other bytes than it was given"):
        blobs.keep(upload)
    upload.discard()
    assert bucket.held[KEY][0] == DATA and leftovers(blobs) == []


def test_bytes_damaged_on_their_way_are_asked_for_once_more(machine, bucket):
    keep(machine())
    for at in (2, 3, 4):  # a head, then the pieces
        blobs = machine()
        bucket.fail(FLIPPED, at)
        assert blobs.local(DIGEST).read_bytes() == DATA
        assert bucket.failed and leftovers(blobs) == []


def test_an_object_that_rotted_is_asked_for_twice_and_no_more(machine, bucket):
    keep(machine())
    bucket.held[KEY] = (DATA[::-1], 0.0)
    blobs = machine()
    bucket.asked.clear()
    with pytest.raises(BlobRotten):
        blobs.local(DIGEST)
    assert bucket.asked.count("head") == 2 and leftovers(blobs) == []


def test_a_copy_that_rotted_here_is_brought_again(machine):
    blobs = machine()
    keep(blobs)
    blobs.local(DIGEST).write_bytes(b"rotten")
    assert blobs.local(DIGEST).read_bytes() == DATA


def test_an_object_that_goes_while_it_is_read_is_lost(machine, bucket, monkeypatch):
    keep(machine())
    monkeypatch.setattr(bucket, "read", lambda *_: None)
    with pytest.raises(BlobLost):
        machine().local(DIGEST)


def test_objects_of_others_are_neither_listed_nor_deleted(machine, bucket):
    keep(machine())
    bucket.held["sha256/README"] = (b"", 0.0)
    bucket.held["other/thing"] = (b"", 0.0)
    assert [stored.digest for stored in machine().digests()] == [DIGEST]


def test_a_bucket_that_stays_wrong_is_not_ready_and_nothing_is_acknowledged(machine, bucket, monkeypatch):
    monkeypatch.setattr(bucket, "read", lambda *_: b"x")
    blobs = machine()
    with pytest.raises(NotReady, match="other bytes than it was sent") as caught:
        keep(blobs)
    assert (caught.value.code, caught.value.retry_after) == ("storage_unavailable", 2.0)
    assert leftovers(blobs) == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", ["new", "again", "old", "rotten"])
def test_after_a_fault_at_any_request_of_a_keep_nothing_is_torn_and_the_next_one_works(
    machine, bucket, clock, fault, before
):
    for at in range(1, 100):
        bucket.held.clear()
        clock.now = 1_000_000.0
        if before != "new":
            bucket.held[KEY] = (DATA[:-1] if before == "rotten" else DATA, clock.now)
        clock.now += 2 * HOUR if before == "old" else 0.0
        blobs = machine()
        bucket.fail(fault, at)
        try:
            keep(blobs)
            acknowledged = True
        except NotReady:
            acknowledged = False
        failed = bucket.failed
        bucket.fail("", 0)
        if acknowledged:
            assert blobs.state(DIGEST) == "sound"
        assert leftovers(blobs) == []
        keep(blobs)
        assert blobs.local(DIGEST).read_bytes() == machine().local(DIGEST).read_bytes() == DATA
        if not failed:
            break
    assert acknowledged and at > 4


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["local", "fetch"])
def test_after_a_fault_at_any_request_of_a_read_there_are_the_right_bytes_or_none(
    machine, bucket, tmp_path, fault, verb
):
    keep(machine())
    target = tmp_path / "copies" / "copy"

    def read(blobs):
        if verb == "local":
            return blobs.local(DIGEST).read_bytes()
        blobs.fetch(DIGEST, target)
        return target.read_bytes()

    for at in range(1, 100):
        target.unlink(missing_ok=True)
        blobs = machine()
        bucket.fail(fault, at)
        try:
            assert read(blobs) == DATA
        except (NotReady, BlobRotten):
            assert not target.exists()
        failed = bucket.failed
        bucket.fail("", 0)
        assert leftovers(blobs) == []
        assert read(blobs) == DATA
        if not failed:
            break
    assert at == 5  # a head and three pieces, and then none


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_fault_of_our_disk_at_any_effect_nothing_is_left_over_and_the_next_try_works(machine, bucket, code):
    for at in range(1, 200):
        bucket.held.clear()
        blobs, other = machine(), machine()
        with Disk(at, code) as disk:
            try:
                keep(blobs)
                assert other.local(DIGEST).is_file()
            except NotReady as error:
                assert error.code == "storage_unavailable"
        for one in (blobs, other):
            one.sweep()
            assert leftovers(one) == []
        keep(blobs)
        assert other.local(DIGEST).read_bytes() == DATA
        if not disk.failed:
            break
    assert at > 15


def test_of_a_thousand_damaged_objects_not_one_is_handed_out(machine, bucket):
    dice = random.Random(6)
    keep(machine())
    for _ in range(1000):
        data = bytearray(DATA)
        kind = dice.randrange(4)
        if kind == 0:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del data[dice.randrange(len(data)) :]
        elif kind == 2:
            data += dice.randbytes(dice.randrange(1, 40))
        else:
            data = bytearray(dice.randbytes(len(data)))
        bucket.held[KEY] = (bytes(data), 0.0)
        blobs = machine()
        assert not blobs.verify(DIGEST)
        with pytest.raises(BlobRotten):
            blobs.local(DIGEST)


def test_a_bucket_that_is_away_is_not_ready_and_what_is_here_goes_on(machine, bucket):
    blobs = machine()
    keep(blobs)
    bucket.fail(REFUSED, 1)
    assert blobs.local(DIGEST).read_bytes() == DATA and not bucket.failed
    with pytest.raises(NotReady) as caught:
        machine().local(DIGEST)
    assert (caught.value.code, caught.value.retry_after) == ("storage_unavailable", 2.0)
