"""A backup is one consistent state, whatever goes on meanwhile, and says what it lacks."""

import asyncio
import errno
import json
import threading

import pytest

from serving.errors import Conflict, NotReady
from serving.registry import backup, restore
from serving.registry.backup import back_up
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.refusals import away
from serving.registry.blobs.store import key_of
from serving.registry.database import Database
from tests.serving.registry.blobs.faults import Disk
from tests.serving.registry.given import ACME, digest_of, open_registry, report_of


def publish(registry, data, name="ada"):
    return asyncio.run(registry.publish(data, name, promote=True)).version.ref.digest


def make(registry, folder):
    return back_up(registry.database, registry.blobs, folder, clock=lambda: 7.0)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_rows_and_every_blob_in_use_are_there_and_what_is_here_is_said(registry, tmp_path):
    digests = [publish(registry, b"one"), publish(registry, b"three", "bob")]
    publish(registry, b"retired", "eve")
    registry.catalog.delete_alias(ACME, "adapter", "eve", "prod", if_match=None)
    registry.catalog.delete(ACME, "adapter", "eve", None)
    folder = tmp_path / "backup"
    made = make(registry, folder)
    assert files(folder) == sorted(["backup.json", "registry.jsonl", *(f"blobs/{key_of(d)}" for d in digests)])
    assert (made.blobs, made.nbytes, made.damaged, made.created) == (2, 8, (), 7.0)
    assert made.revision == registry.catalog.since(0).revision and made.rows["versions"] == 2
    assert json.loads((folder / "backup.json").read_text())["format"] == "chorus-backup/1"
    assert restore.contents_of(folder) == made


def test_hashes_of_keys_are_for_the_owner_only(registry, tmp_path):
    make(registry, tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    assert (tmp_path / "backup" / "registry.jsonl").stat().st_mode & 0o077 == 0


def test_a_folder_with_something_in_it_is_refused(registry, tmp_path):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "photo").touch()
    with pytest.raises(Conflict, match="is not empty"):
        make(registry, tmp_path / "backup")
    assert files(tmp_path / "backup") == ["photo"]


def test_damaged_blobs_are_told_and_the_rest_is_backed_up(registry, tmp_path):
    lost, rotten, good = (publish(registry, data, data.decode()) for data in (b"lost", b"rotten", b"good"))
    registry.blobs.path(lost).unlink()
    registry.blobs.path(rotten).write_bytes(b"rotted")
    made = make(registry, tmp_path / "backup")
    assert made.damaged == tuple(sorted([lost, rotten])) and made.blobs == 1
    assert (tmp_path / "backup" / "blobs" / key_of(good)).read_bytes() == b"good"


def unreadable(registry, monkeypatch, *digests):
    """A bad sector under each of them."""
    for name in ("fetch", "state"):
        held = getattr(registry.blobs, name)

        def read(digest, *rest, held=held):
            if digest in digests:
                raise away("Input/output error")
            return held(digest, *rest)

        monkeypatch.setattr(registry.blobs, name, read)


def test_a_bad_sector_is_told_as_damage_and_the_rest_is_backed_up(registry, tmp_path, monkeypatch):
    bad, good = publish(registry, b"on a bad sector"), publish(registry, b"good", "bob")
    unreadable(registry, monkeypatch, bad)
    made = make(registry, tmp_path / "backup")
    assert (made.damaged, made.blobs) == ((bad,), 1)
    assert restore.verified_digests(tmp_path / "backup", restore.contents_of(tmp_path / "backup")) == (good,)


@pytest.mark.parametrize(("blobs", "away"), [(1, 1), (2, 2), (9, 3)])
def test_a_store_that_is_away_is_no_damage(registry, tmp_path, monkeypatch, blobs, away):
    digests = sorted(publish(registry, b"%d" % number, f"n{number}") for number in range(blobs))
    unreadable(registry, monkeypatch, *digests[:away])
    with pytest.raises(NotReady):
        make(registry, tmp_path / "backup")
    assert not (tmp_path / "backup" / "backup.json").exists()


def test_what_is_published_retired_and_collected_meanwhile_changes_nothing(registry, tmp_path, monkeypatch):
    first = publish(registry, b"one")
    rows = backup.dump.rows

    def slowly(connection):
        for number, item in enumerate(rows(connection)):
            if number == 2:
                publish(registry, b"two", "bob")
                registry.catalog.add_version(ACME, "adapter", "ada", report_of(b"three"), promote=True)
            yield item

    monkeypatch.setattr(backup.dump, "rows", slowly)
    before = registry.catalog.since(0).revision
    made = make(registry, tmp_path / "backup")
    monkeypatch.undo()
    assert made.revision == before and made.rows["versions"] == 1 and made.blobs == 1
    assert files(tmp_path / "backup" / "blobs") == [key_of(first)]


def test_under_a_load_of_publishes_every_backup_can_be_restored_whole(registry, url, tmp_path):
    stop, published = threading.Event(), []

    def publish_on():
        other = open_registry(tmp_path, url=url)
        number = 0
        while not stop.is_set():
            published.append(publish(other, b"number %d" % number, f"n{number % 7}"))
            number += 1
        other.database.close()

    thread = threading.Thread(target=publish_on)
    thread.start()
    try:
        made = []
        while len(made) < 3:
            if len(published) > 5 * len(made):
                made.append(make(registry, tmp_path / f"backup{len(made)}"))
    finally:
        stop.set()
        thread.join()
    assert [m.revision for m in made] == sorted({m.revision for m in made})
    for number, contents in enumerate(made):
        database = Database.open(f"sqlite:///{tmp_path / f'restored{number}.sqlite'}")
        blobs = LocalBlobs(tmp_path / f"restored{number}")
        restore.restore(tmp_path / f"backup{number}", database, blobs)
        restored = [stored.digest for stored in blobs.digests()]
        assert len(restored) == contents.blobs == contents.rows["versions"] and contents.damaged == ()
        assert set(restored) <= set(published)
        database.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_fault_of_the_disk_leaves_no_backup_that_says_it_is_whole(tmp_path, code):
    registry = open_registry(tmp_path)
    digest = publish(registry, b"one")
    for at in range(1, 200):
        folder = tmp_path / f"backup{at}"
        with Disk(at, code) as disk:
            try:
                make(registry, folder)
            except NotReady as error:
                assert error.code in ("storage_unavailable", "registry_unavailable")
        whole = (folder / "backup.json").is_file()
        if whole:
            assert restore.verified_digests(folder, restore.contents_of(folder)) == (digest,)
        if not disk.failed:
            break
    assert whole and at > 15
    assert digest_of(b"one") == digest and registry.blobs.check() == ()
    registry.database.close()
