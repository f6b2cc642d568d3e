"""Files on disk are whole and right, whatever happened before."""

import errno
import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest

from adapters.cache.disk import DiskTier
from adapters.errors import LoadFailed, OutOfRoom, PackageLost, PackageRotten, StoreUnavailable


class Blobs:
    def __init__(self, folder):
        self.folder = folder
        self.calls = 0
        folder.mkdir()

    def put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / digest).write_bytes(content)
        return f"sha256:{digest}"

    def __call__(self, digest):
        self.calls += 1
        return self.folder / digest.removeprefix("sha256:")


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "disk"


def test_a_blob_is_linked_not_copied_and_fetched_once(blobs, folder):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    path = disk.fetch(digest, blobs)
    assert path.read_bytes() == b"weights" and path == disk.path(digest)
    assert path.stat().st_ino == blobs(digest).stat().st_ino
    blobs.calls = 0
    assert disk.fetch(digest, blobs) == path and blobs.calls == 0
    assert (disk.used, disk.fetched, disk.bytes_fetched, disk.check()) == (7, 1, 7, ())


def test_without_hard_links_the_bytes_are_copied(blobs, folder, monkeypatch):
    def refuse(*_):
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    path = disk.fetch(digest, blobs)
    assert path.read_bytes() == b"weights" and path.stat().st_ino != blobs(digest).stat().st_ino


def test_the_longest_unused_files_go(blobs, folder):
    disk = DiskTier(folder, 10)
    a, b, c = (blobs.put(text) for text in (b"aaaa", b"bbbb", b"cccc"))
    disk.fetch(a, blobs)
    disk.fetch(b, blobs)
    disk.fetch(a, blobs)
    disk.fetch(c, blobs)
    assert a in disk and c in disk and b not in disk
    assert not disk.path(b).exists() and disk.evictions == 1 and disk.used == 8 and disk.check() == ()
    assert blobs(b).exists(), "only our link goes"


def test_a_file_larger_than_the_tier_is_refused_and_evicts_nothing(blobs, folder):
    disk, small, large = DiskTier(folder, 10), blobs.put(b"small"), blobs.put(b"x" * 11)
    disk.fetch(small, blobs)
    with pytest.raises(OutOfRoom, match="11 bytes, the disk tier holds 10"):
        disk.fetch(large, blobs)
    assert small in disk and sorted(folder.iterdir()) == [disk.path(small)]


def test_wrong_bytes_are_fetched_once_more(blobs, folder):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    bad = blobs.folder / "bad"
    bad.write_bytes(b"weightz")
    answers = [bad, blobs(digest)]
    assert disk.fetch(digest, lambda _: answers.pop(0)).read_bytes() == b"weights"
    assert answers == []


def test_wrong_bytes_twice_fail_and_leave_nothing(blobs, folder):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    blobs(digest).write_bytes(b"torn")
    blobs.calls = 0
    with pytest.raises(PackageRotten, match="other bytes, twice") as caught:
        disk.fetch(digest, blobs)
    assert caught.value.digest == digest
    assert blobs.calls == 2 and list(folder.iterdir()) == [] and disk.used == 0


def test_a_file_that_was_damaged_at_rest_is_replaced(blobs, folder):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    path = disk.fetch(digest, blobs)
    path.unlink()
    path.write_bytes(b"weightz")
    assert disk.fetch(digest, blobs).read_bytes() == b"weights"
    path.unlink()
    assert disk.check() != ()
    assert disk.fetch(digest, blobs).read_bytes() == b"weights" and disk.check() == ()


@pytest.mark.parametrize("error", [OSError("network"), ValueError("odd"), KeyError("gone")])
def test_a_failing_source_is_a_failed_load(blobs, folder, error):
    def source(digest):
        raise error

    with pytest.raises(LoadFailed):
        DiskTier(folder, 100).fetch(blobs.put(b"weights"), source)


def test_a_blob_that_is_not_there_is_a_failed_load(blobs, folder):
    digest = blobs.put(b"weights")
    blobs(digest).unlink()
    with pytest.raises(PackageLost) as caught:
        DiskTier(folder, 100).fetch(digest, blobs)
    assert caught.value.digest == digest
    assert str(folder.parent) not in str(caught.value)  # a tenant reads this


def test_a_full_disk_leaves_no_partial_file(blobs, folder, monkeypatch):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")

    def full(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="no space left"):
        disk.fetch(digest, blobs)
    assert list(folder.iterdir()) == [] and disk.check() == ()


def test_what_is_no_digest_never_becomes_a_path(folder):
    for text in ("sha256:../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 64, "0" * 64):
        with pytest.raises(LoadFailed, match="not a sha256 digest"):
            DiskTier(folder, 1).path(text)


def test_a_start_sweeps_torn_files_counts_whole_ones_and_leaves_others_alone(blobs, folder):
    digest = blobs.put(b"weights")
    path = DiskTier(folder, 100).fetch(digest, blobs)
    torn = path.with_name(path.name + ".part")
    torn.write_bytes(b"wei")
    (folder / "README").write_text("not ours")
    blobs.calls = 0
    disk = DiskTier(folder, 100)
    assert digest in disk and disk.used == 7 and not torn.exists() and (folder / "README").exists()
    assert disk.fetch(digest, blobs) == path and blobs.calls == 0 and disk.check() == ()


def test_a_start_with_a_smaller_budget_drops_the_oldest(blobs, folder):
    disk = DiskTier(folder, 100)
    old, young = blobs.put(b"old!"), blobs.put(b"young")
    for age, digest in ((1, old), (2, young)):
        os.utime(disk.fetch(digest, blobs), ns=(age, age))
    disk = DiskTier(folder, 6)
    assert young in disk and old not in disk and not disk.path(old).exists() and disk.check() == ()


def test_after_a_start_the_oldest_file_is_the_first_victim(blobs, folder):
    disk = DiskTier(folder, 100)
    digests = [blobs.put(text) for text in (b"1111", b"2222", b"3333")]
    for age, digest in enumerate(digests):
        os.utime(disk.fetch(digest, blobs), ns=(age, age))
    disk = DiskTier(folder, 12)
    disk.fetch(blobs.put(b"4444"), blobs)
    assert [digest in disk for digest in digests] == [False, True, True]


def test_drop_removes_the_file_and_its_bytes(blobs, folder):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    disk.fetch(digest, blobs)
    assert disk.nbytes(digest) == 7
    assert disk.drop(digest) and not disk.drop(digest)
    assert disk.used == 0 and disk.nbytes(digest) is None and list(folder.iterdir()) == []


@pytest.mark.parametrize("error", [PackageLost("gone", "sha256:0"), StoreUnavailable("away", 2.0)])
def test_what_the_source_says_in_our_words_is_passed_on(blobs, folder, error):
    def source(digest):
        raise error

    with pytest.raises(LoadFailed) as caught:
        DiskTier(folder, 100).fetch(blobs.put(b"weights"), source)
    assert caught.value is error


def flip(path, dice):
    """Damage a file in one of the ways that storage does: a bit, a torn end, other bytes, nothing at all."""
    data = bytearray(path.read_bytes())
    kind = dice.randrange(4)
    if kind == 0:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == 1:
        del data[dice.randrange(len(data)) :]
    elif kind == 2:
        data += b"\0" * dice.randrange(1, 9)
    else:
        data = bytearray(dice.randbytes(len(data)))
    path.unlink()  # the registry's blob shares the inode
    path.write_bytes(bytes(data))


def test_a_thousand_damaged_copies_are_found_and_brought_again_once(blobs, folder):
    dice = random.Random(4)
    contents = {blobs.put(data): data for data in (dice.randbytes(dice.randrange(1, 300)) for _ in range(20))}
    disk = DiskTier(folder, 10_000)
    for digest in contents:
        disk.fetch(digest, blobs)
    for damaged in range(1, 1001):
        digest = dice.choice(list(contents))
        flip(disk.path(digest), dice)
        if dice.random() < 0.1:
            restarted, before = DiskTier(folder, 10_000), disk.damaged
            restarted.damaged, disk = before, restarted
        blobs.calls = 0
        assert disk.fetch(digest, blobs).read_bytes() == contents[digest]
        assert (blobs.calls, disk.damaged) == (1, damaged)
    assert disk.check() == ()


def test_a_thousand_damaged_sources_are_never_loaded(blobs, folder):
    dice = random.Random(5)
    data = dice.randbytes(200)
    digest = blobs.put(data)
    disk = DiskTier(folder, 10_000)
    for _ in range(1000):
        flip(blobs(digest), dice)
        with pytest.raises(PackageRotten):
            disk.fetch(digest, blobs)
        blobs.put(data)
    assert list(folder.iterdir()) == [] and disk.used == 0
    assert disk.fetch(digest, blobs).read_bytes() == data


def test_a_damaged_file_that_can_not_be_removed_is_replaced_and_stays_replaced(blobs, folder, monkeypatch):
    disk, digest = DiskTier(folder, 100), blobs.put(b"weights")
    flip(disk.fetch(digest, blobs), random.Random(0))

    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert not disk.drop("sha256:" + "0" * 64) and disk.drop(digest)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_clear", lambda: None)  # and still can not be when it is fetched
        assert disk.fetch(digest, blobs).read_bytes() == b"weights"
    assert disk.fetch(digest, blobs).read_bytes() == b"weights"
    assert disk.check() == () and disk.fetched == 2


EFFECTS = ((os, "link"), (os, "fsync"), (os, "open"), (Path, "open"), (Path, "replace"), (Path, "unlink"))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("linked", [True, False], ids=["linked", "copied"])
def test_after_a_fault_at_any_effect_the_next_fetch_works_and_nothing_is_left_over(blobs, folder, code, linked):
    digest, victim = blobs.put(b"weights"), blobs.put(b"other's")
    for at in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        disk = DiskTier(folder, 10)  # room for one of them
        disk.fetch(victim, blobs)
        with pytest.MonkeyPatch.context() as patch:
            if not linked:
                patch.setattr(os, "link", _cross_device)
            seen = _strike(patch, at, code)
            failed = None
            try:
                disk.fetch(digest, blobs)
            except StoreUnavailable as error:
                failed = error
        known = {disk.path(d) for d in (digest, victim) if d in disk} | disk._strays
        assert set(folder.iterdir()) <= known and disk.check() == ()
        assert disk.fetch(digest, blobs).read_bytes() == b"weights"
        assert disk.check() == () and disk.used == 7
        assert list(folder.iterdir()) == [disk.path(digest)]
        if len(seen) < at:
            break
    assert failed is None and at > 5


def _cross_device(*_):
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _strike(patch, at, code):
    """Have the effect number `at` fail; returns the names of those that came."""
    seen = []

    def counted(held, name):
        def call(*args, **kwargs):
            seen.append(name)
            if len(seen) == at:
                raise OSError(code, os.strerror(code))
            return held(*args, **kwargs)

        return call

    for owner, name in EFFECTS:
        patch.setattr(owner, name, counted(getattr(owner, name), name))
    return seen
