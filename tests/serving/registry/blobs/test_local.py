"""Files of a data folder: whole and durable before their name appears, and never two of the same bytes."""

import errno
import multiprocessing
import os

import pytest

from serving.errors import NotReady
from serving.registry.blobs import local
from serving.registry.blobs.local import LocalBlobs
from tests.serving.registry.blobs.faults import Disk
from tests.serving.registry.given import digest_of


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path)


def received(blobs, data=b"some bytes"):
    upload = blobs.receive()
    upload.write(data)
    return upload


def kept(blobs, data=b"some bytes"):
    upload = received(blobs, data)
    blobs.keep(upload)
    upload.discard()
    return blobs.path(upload.digest)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_bytes_are_kept_under_their_own_digest(blobs, tmp_path):
    path = kept(blobs)
    value = digest_of(b"some bytes").removeprefix("sha256:")
    assert files(tmp_path) == [f"sha256/{value[:2]}/{value}"]
    assert blobs.local(digest_of(b"some bytes")) == path


def test_a_discarded_upload_leaves_nothing(blobs, tmp_path):
    upload = received(blobs)
    upload.discard()
    assert files(tmp_path) == []
    assert not blobs.verify(upload.digest)


def test_the_same_bytes_twice_leave_the_first_file_alone_and_make_it_young(blobs):
    path = kept(blobs)
    inode = path.stat().st_ino
    os.utime(path, (1.0, 1.0))
    assert kept(blobs).stat().st_ino == inode
    assert path.stat().st_mtime > 1_000_000


def test_a_rotten_file_is_replaced_and_the_upload_can_still_be_kept_again(blobs, tmp_path):
    path, upload = kept(blobs), received(blobs)
    path.write_bytes(b"some bytez")
    blobs.keep(upload)
    assert blobs.verify(upload.digest)
    path.unlink()
    blobs.keep(upload)
    assert blobs.verify(upload.digest)
    upload.discard()
    assert blobs.verify(upload.digest) and len(files(tmp_path)) == 1


def test_the_name_appears_only_after_the_bytes_are_on_the_disk(blobs, monkeypatch):
    steps = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "link", lambda a, b: (steps.append("link"), link(a, b)))
    upload = received(blobs)
    blobs.keep(upload)
    upload.discard()
    assert steps == ["fsync", "fsync", "link", "fsync"]  # the bytes, the new folder, the name, the folder's entry


def test_a_blob_that_is_collected_while_the_same_bytes_are_kept_is_kept_again(blobs, monkeypatch):
    path, upload = kept(blobs), received(blobs)
    monkeypatch.setattr(local, "digest_of", lambda file: (digest_of(file.read_bytes()), path.unlink())[0])
    blobs.keep(upload)
    monkeypatch.undo()
    assert blobs.verify(upload.digest)
    upload.discard()


def test_a_bad_sector_is_healed_by_the_same_bytes(blobs, monkeypatch):
    path, upload = kept(blobs), received(blobs)
    bad = path.stat().st_ino

    def read(file):
        if file.stat().st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest_of(file.read_bytes())

    monkeypatch.setattr(local, "digest_of", read)
    with pytest.raises(NotReady):
        blobs.verify(upload.digest)
    blobs.keep(upload)
    assert blobs.verify(upload.digest) and path.stat().st_ino != bad
    upload.discard()
    assert blobs.check() == ()


def test_what_is_no_blob_is_told_and_listed_by_nobody(blobs, tmp_path):
    path = kept(blobs)
    (path.parent / "README").write_text("not ours")
    (tmp_path / "sha256" / "notes").write_text("neither")
    assert [stored.digest for stored in blobs.digests()] == [digest_of(b"some bytes")]
    name = f"sha256/{path.parent.name}/README"
    assert blobs.check() == tuple(sorted([f"blobs: {name} is no blob", "blobs: sha256/notes is no blob"]))


def test_a_disk_that_can_not_be_read_is_not_ready_and_not_a_lost_blob(blobs):
    kept(blobs)
    for ask in (blobs.state, blobs.verify):
        with Disk(1, errno.EIO), pytest.raises(NotReady) as caught:
            ask(digest_of(b"some bytes"))
        assert caught.value.code == "storage_unavailable"


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("before", ["new", "again", "rotten"])
def test_after_a_fault_at_any_effect_of_a_keep_nothing_is_torn_and_the_next_one_works(tmp_path, code, before):
    data, folder = b"some bytes", tmp_path / "blobs"
    for at in range(1, 100):
        blobs = LocalBlobs(folder)
        blobs.path(digest_of(data)).unlink(missing_ok=True)
        if before != "new":
            kept(blobs).write_bytes(data if before == "again" else b"rotten")
        with Disk(at, code) as disk:
            upload = None
            try:
                upload = blobs.receive()
                upload.write(data)
                blobs.keep(upload)
            except NotReady as error:
                assert error.code == "storage_unavailable"
            finally:
                if upload is not None:
                    upload.discard()
        assert blobs.state(digest_of(data)) in ("sound", {"new": "lost", "again": "sound", "rotten": "rotten"}[before])
        blobs.sweep()
        assert not list((folder / "uploads").iterdir()) and blobs.check() == ()
        assert kept(blobs).read_bytes() == data
        if not disk.failed:
            break
    assert at > 7


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_fault_at_any_effect_of_a_fetch_there_is_a_whole_copy_or_none(blobs, tmp_path, code):
    digest, target = digest_of(b"some bytes"), tmp_path / "copies" / "copy"
    kept(blobs)
    for at in range(1, 100):
        target.unlink(missing_ok=True)
        with Disk(at, code) as disk:
            try:
                blobs.fetch(digest, target)
            except NotReady as error:
                assert error.code == "storage_unavailable"
        blobs.fetch(digest, target)
        assert target.read_bytes() == b"some bytes" and blobs.verify(digest)
        if not disk.failed:
            break
    assert at > 7


def _keep_many(folder, barrier):
    blobs = LocalBlobs(folder)
    barrier.wait()
    for number in range(30):
        kept(blobs, b"number %d" % number)


def test_processes_that_keep_the_same_bytes_at_once_make_one_file_each(tmp_path):
    server = multiprocessing.get_context("forkserver")
    barrier = server.Barrier(3)
    processes = [server.Process(target=_keep_many, args=(tmp_path, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    blobs = LocalBlobs(tmp_path)
    found = [stored.digest for stored in blobs.digests()]
    assert len(found) == 30 and all(map(blobs.verify, found)) and blobs.check() == ()
