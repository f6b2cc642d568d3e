"""Files being received are hashed as they come, and outlive nobody but their process."""

import errno
import multiprocessing
import os

import pytest

from serving.errors import NotReady
from serving.registry.blobs.uploads import Uploads
from tests.serving.registry.blobs.faults import Disk
from tests.serving.registry.given import digest_of


@pytest.fixture
def uploads(tmp_path):
    return Uploads(tmp_path / "uploads")


def names(uploads):
    return sorted(path.name for path in uploads.folder.iterdir())


def test_digest_and_size_are_those_of_the_bytes_so_far(uploads):
    upload = uploads.receive()
    assert (upload.digest, upload.nbytes) == (digest_of(b""), 0)
    upload.write(b"some ")
    upload.write(b"bytes")
    assert (upload.digest, upload.nbytes) == (digest_of(b"some bytes"), 10)
    assert upload.path.read_bytes() == b"some bytes"
    upload.discard()
    upload.discard()
    assert names(uploads) == [] and uploads.check() == ()
    with pytest.raises(NotReady):
        upload.write(b"late")


def test_short_writes_are_completed(uploads, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    upload = uploads.receive()
    upload.write(b"some bytes")
    assert upload.path.read_bytes() == b"some bytes"
    upload.discard()


def test_what_another_process_wrote_counts_as_received(uploads):
    upload = uploads.receive()
    upload.path.write_bytes(b"made elsewhere" * 100_000)
    upload.adopt()
    assert (upload.nbytes, upload.digest) == (1_400_000, digest_of(b"made elsewhere" * 100_000))
    upload.discard()


def test_a_settled_file_stays_whole_in_place_of_what_was_there(uploads, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"before")
    upload = uploads.receive()
    upload.write(b"after")
    upload.settle(target)
    upload.discard()
    assert target.read_bytes() == b"after" and names(uploads) == []


def test_a_full_disk_is_not_ready_says_why_and_when_to_come_again(uploads, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    upload = uploads.receive()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotReady, match="No space left") as caught:
        upload.write(b"x")
    assert caught.value.code == "storage_unavailable" and caught.value.retry_after == 2.0
    assert str(uploads.folder) not in caught.value.detail
    upload.discard()


def _abandon(folder, answers):
    upload = Uploads(folder).receive()
    upload.write(b"half of it")
    answers.put(upload.path.name)
    answers.close()
    answers.join_thread()
    os.kill(os.getpid(), 9)


def test_a_sweep_removes_what_dead_processes_left_and_nothing_of_the_living(uploads):
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_abandon, args=(uploads.folder, answers))
    process.start()
    dead = answers.get(timeout=60)
    process.join()
    living = uploads.receive()
    living.write(b"still coming")
    assert names(uploads) == sorted([dead, living.path.name])
    assert uploads.sweep() == 1
    assert names(uploads) == [living.path.name]
    assert living.path.read_bytes() == b"still coming"
    living.discard()


def test_an_upload_that_a_sweep_took_before_its_lock_was_had_is_opened_anew(uploads, monkeypatch):
    opened = uploads._open
    swept = []

    def unlucky():
        upload = opened()
        if not swept:
            swept.append(upload.path.unlink())
        return upload

    monkeypatch.setattr(uploads, "_open", unlucky)
    upload = uploads.receive()
    assert names(uploads) == [upload.path.name]
    upload.discard()


def test_what_is_no_upload_is_told(uploads):
    (uploads.folder / "README").write_text("not ours")
    assert uploads.check() == ("uploads: README is no upload",)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_fault_at_any_effect_nothing_is_left_over_and_the_next_upload_works(uploads, tmp_path, code):
    target = tmp_path / "target"
    for at in range(1, 100):
        target.unlink(missing_ok=True)
        with Disk(at, code) as disk:
            upload = None
            try:
                upload = uploads.receive()
                upload.write(b"some bytes")
                upload.settle(target)
            except NotReady as error:
                assert error.code == "storage_unavailable"
            finally:
                if upload is not None:
                    upload.discard()
        uploads.sweep()
        assert names(uploads) == [] and (not target.exists() or target.read_bytes() == b"some bytes")
        if not disk.failed:
            break
    assert at > 6 and target.read_bytes() == b"some bytes"
