import errno
import multiprocessing
import os

import pytest

from serving.errors import NotReady
from serving.registry.blobs import BlobStore
from tests.serving.registry.given import digest_of


@pytest.fixture
def blobs(tmp_path):
    return BlobStore(tmp_path)


def received(blobs, data=b"some bytes"):
    upload = blobs.receive()
    upload.write(data)
    return upload


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_bytes_are_kept_under_their_own_digest(blobs, tmp_path):
    upload = received(blobs, b"some ")
    upload.write(b"bytes")
    assert (upload.digest, upload.nbytes) == (digest_of(b"some bytes"), 10)
    kept = blobs.keep(upload)
    upload.discard()
    upload.discard()
    value = upload.digest.removeprefix("sha256:")
    assert files(tmp_path) == [f"sha256/{value[:2]}/{value}"]
    assert kept == blobs.path(upload.digest)
    assert kept.read_bytes() == b"some bytes"
    assert blobs.verify(upload.digest)


def test_a_discarded_upload_leaves_nothing(blobs, tmp_path):
    upload = received(blobs)
    upload.discard()
    assert files(tmp_path) == []
    assert not blobs.verify(upload.digest)
    with pytest.raises(NotReady):
        upload.write(b"late")


def test_the_same_bytes_twice_leave_the_first_file_alone(blobs):
    first = received(blobs)
    inode = blobs.keep(first).stat().st_ino
    second = received(blobs)
    assert blobs.keep(second).stat().st_ino == inode
    for upload in (first, second):
        upload.discard()
    assert blobs.verify(first.digest)


def test_bytes_that_rotted_are_found_and_healed_by_the_right_ones(blobs):
    first, second = received(blobs), received(blobs)
    blobs.keep(first).write_bytes(b"some bytez")
    assert not blobs.verify(first.digest)
    blobs.keep(second)
    assert blobs.verify(first.digest)
    for upload in (first, second):
        upload.discard()
    assert blobs.verify(first.digest)


def test_the_name_appears_only_after_the_bytes_are_on_the_disk(blobs, monkeypatch):
    steps = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "link", lambda a, b: (steps.append("link"), link(a, b)))
    upload = received(blobs)
    blobs.keep(upload)
    upload.discard()
    assert steps == ["fsync", "fsync", "link", "fsync"]  # the bytes, the new folder, the name, the folder's entry


def test_short_writes_are_completed(blobs, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    upload = received(blobs)
    assert blobs.keep(upload).read_bytes() == b"some bytes"
    upload.discard()


def test_a_full_disk_is_not_ready_and_says_why(blobs, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    upload = blobs.receive()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotReady, match="No space left") as caught:
        upload.write(b"x")
    assert caught.value.code == "storage_unavailable"
    upload.discard()


def _abandon(folder, answers):
    upload = BlobStore(folder).receive()
    upload.write(b"half of it")
    answers.put(upload.path.name)
    answers.close()
    answers.join_thread()
    os.kill(os.getpid(), 9)


def test_a_sweep_removes_what_dead_processes_left_and_nothing_of_the_living(blobs, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_abandon, args=(tmp_path, answers))
    process.start()
    dead = answers.get(timeout=60)
    process.join()
    living = received(blobs)
    assert files(tmp_path) == sorted([f"uploads/{dead}", f"uploads/{living.path.name}"])
    assert blobs.sweep() == 1
    assert files(tmp_path) == [f"uploads/{living.path.name}"]
    assert blobs.keep(living).is_file()
    living.discard()


@pytest.mark.parametrize("digest", ["sha256:..", "md5:" + "0" * 64, "sha256:" + "0" * 63])
def test_a_path_is_made_of_digests_only(blobs, digest):
    with pytest.raises(AssertionError):
        blobs.path(digest)


def test_what_another_process_wrote_counts_as_received(tmp_path):
    store = BlobStore(tmp_path)
    upload = store.receive()
    upload.path.write_bytes(b"made elsewhere" * 100_000)
    upload.adopt()
    assert upload.nbytes == 1_400_000
    kept = store.keep(upload)
    upload.discard()
    assert kept.read_bytes() == b"made elsewhere" * 100_000
    assert store.verify(upload.digest)
