"""A backup comes back whole or not at all, in any kind of database, and gateways see it as news."""

import asyncio
import json
import shutil

import pytest

from serving.errors import Conflict, NotReady, Unprocessable
from serving.registry.backup import back_up
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.objects import ObjectBlobs
from serving.registry.blobs.store import key_of
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.dump import LEAP
from serving.registry.restore import contents_of, refuse_used, restore, verified_digests
from serving.registry.snapshot import Snapshot
from serving.registry.suspicion import REASONS
from tests.serving.conftest import KINDS
from tests.serving.registry.blobs.fake_bucket import FAULTS, REFUSED, UNHEARD, FakeBucket
from tests.serving.registry.given import ACME, OTHER, open_registry, report_of


def publish(registry, data, name="ada", **how):
    return asyncio.run(registry.publish(data, name, **how)).version.ref.digest


@pytest.fixture
def made(registry, tmp_path):
    """The backup of a registry with a bit of everything."""
    return backup_of(registry, tmp_path / "backup")


@pytest.fixture
def plain(tmp_path):
    """The same of a registry in SQLite, where the kind of the database plays no part."""
    registry = open_registry(tmp_path)
    yield backup_of(registry, tmp_path / "backup")
    registry.database.close()


def backup_of(registry, folder):
    publish(registry, b"one", promote=True)
    publish(registry, b"two")
    publish(registry, b"theirs", by=OTHER)
    publish(registry, b"retired", "eve")
    registry.catalog.delete(ACME, "adapter", "eve", None)
    registry.catalog.set_pin(ACME, "adapter", "ada", 2, pinned=True)
    registry.catalog.set_tags(ACME, "adapter", "ada", 1, {"mood": "good"})
    back_up(registry.database, registry.blobs, folder)
    return folder


@pytest.fixture(params=KINDS)
def target(request, tmp_path):
    """An empty database of every kind, beside the one of `registry`."""
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    if request.param != "sqlite":
        url = request.getfixturevalue("cluster").create()
    database = Database.open(url)
    yield database
    database.close()


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "new")


def facts(catalog):
    """All that a registry says, but for its revisions."""
    delta = catalog.since(0)
    audit = [(e.at, e.actor, e.action, e.subject, e.before, e.after) for e in catalog.audit(None, after=0, limit=1000)]
    names = {
        key: record and (record.versions, record.aliases, record.pinned, record.last)
        for key, record in delta.names.items()
    }
    return names, delta.active, audit, catalog.tombstones("acme", "adapter", "eve")


def test_everything_comes_back_in_any_database(registry, made, target, blobs):
    restore(made, target, blobs)
    restored = Catalog(target)
    assert facts(restored) == facts(registry.catalog)
    digests = registry.catalog.digests()
    assert restored.digests() == digests and all(map(blobs.verify, digests)) and len(digests) == 3


def test_a_restored_registry_goes_on_where_the_old_one_was(made, target, blobs):
    restore(made, target, blobs)
    published = Catalog(target).add_version(ACME, "adapter", "ada", report_of(b"three"), promote=True).value
    again = Catalog(target).add_version(ACME, "adapter", "eve", report_of(b"retired"), promote=False).value
    assert (published.version.ref.version, again.version.ref.version) == (3, 2)


def test_a_gateway_that_saw_later_revisions_reads_all_of_it_as_news(registry, made, target, blobs):
    publish(registry, b"after the backup", "late")
    seen = registry.catalog.since(0).revision
    restore(made, target, blobs)
    delta = Catalog(target).since(seen)
    assert delta.revision >= LEAP
    snapshot = Snapshot(seen).apply(delta)
    assert snapshot.find("acme", "adapter", "ada").aliases == {"prod": 1}
    assert Catalog(target).since(delta.revision).names == {}


def test_a_backup_of_a_restored_registry_is_restored_as_well(made, target, blobs, tmp_path):
    restore(made, target, blobs)
    second = back_up(target, blobs, tmp_path / "second")
    database = Database.open(f"sqlite:///{tmp_path / 'third.sqlite'}")
    restore(tmp_path / "second", database, LocalBlobs(tmp_path / "third"))
    assert facts(Catalog(database)) == facts(Catalog(target))
    assert Catalog(database).since(0).revision == second.revision + LEAP
    database.close()


def test_bytes_that_were_damaged_at_the_backup_are_in_quarantine(registry, target, blobs, tmp_path):
    good, bad = publish(registry, b"good"), publish(registry, b"ill", "bob")
    registry.blobs.path(bad).unlink()
    back_up(registry.database, registry.blobs, tmp_path / "backup")
    restore(tmp_path / "backup", target, blobs)
    names = Catalog(target).since(0).names
    assert names["acme", "adapter", "bob"].versions[0].quarantined == REASONS["lost"]
    assert names["acme", "adapter", "ada"].versions[0].quarantined is None
    assert blobs.verify(good) and not blobs.present(bad)


def untouched(database, blobs):
    return Catalog(database).since(0).revision == 0 and list(blobs.digests()) == []


@pytest.fixture
def fresh(tmp_path):
    database = Database.open(f"sqlite:///{tmp_path / 'fresh.sqlite'}")
    yield database
    database.close()


@pytest.mark.parametrize("how", ["flip", "cut", "lose"])
def test_a_backup_with_one_bad_blob_is_refused_before_anything_is_written(plain, fresh, blobs, how):
    digest = verified_digests(plain, contents_of(plain))[0]
    path = plain / "blobs" / key_of(digest)
    data = path.read_bytes()
    if how == "lose":
        path.unlink()
    else:
        path.write_bytes(bytes([data[0] ^ 4]) + data[1:] if how == "flip" else data[:-1])
    with pytest.raises(Unprocessable, match=f"lost or damaged: {digest}$"):
        restore(plain, fresh, blobs)
    assert untouched(fresh, blobs)


def test_rows_that_changed_since_are_refused(plain, fresh, blobs):
    rows = plain / "registry.jsonl"
    rows.write_text(rows.read_text().replace('"alias": "prod"', '"alias": "prid"'))
    with pytest.raises(Unprocessable, match=r"registry\.jsonl of the backup is damaged"):
        restore(plain, fresh, blobs)
    assert untouched(fresh, blobs)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "backup.json").unlink(), "not finished"),
        (lambda folder: (folder / "backup.json").write_text("{"), "can not be understood"),
        (lambda folder: (folder / "backup.json").write_text("{}"), "can not be understood"),
        (lambda folder: rewrite(folder, format="chorus-backup/2"), "chorus-backup/2"),
        (shutil.rmtree, "is no backup"),
    ],
)
def test_what_is_no_whole_backup_is_refused(plain, fresh, blobs, change, told):
    change(plain)
    with pytest.raises(Unprocessable, match=told):
        restore(plain, fresh, blobs)
    assert untouched(fresh, blobs)


def rewrite(folder, **values):
    held = json.loads((folder / "backup.json").read_text())
    (folder / "backup.json").write_text(json.dumps({**held, **values}))


def test_a_backup_of_a_later_release_is_refused(plain, fresh, blobs):
    rewrite(plain, schema="9999")
    with pytest.raises(Conflict, match="another release"):
        restore(plain, fresh, blobs)


def test_a_registry_that_was_ever_written_to_is_refused(made, registry, blobs):
    with pytest.raises(Conflict, match="restore into an empty one") as caught:
        restore(made, registry.database, blobs)
    assert caught.value.code == "not_empty" and list(blobs.digests()) == []


def test_a_registry_that_someone_writes_to_meanwhile_is_left_alone(plain, fresh, blobs, monkeypatch):
    keep = blobs.keep

    def busy(upload):
        keep(upload)
        Catalog(fresh).add_version(ACME, "adapter", "mine", report_of(b"mine"), promote=False)

    monkeypatch.setattr(blobs, "keep", busy)
    with pytest.raises(Conflict, match="restore into an empty one"):
        restore(plain, fresh, blobs)
    assert list(Catalog(fresh).since(0).names) == [("acme", "adapter", "mine")]


def test_a_data_folder_with_something_in_it_is_refused_and_what_a_restore_left_is_not(tmp_path):
    refuse_used(tmp_path / "absent")
    data = tmp_path / "data"
    (data / "blobs").mkdir(parents=True)
    (data / "registry.sqlite-wal").touch()
    refuse_used(data)
    (data / "logs").mkdir()
    with pytest.raises(Conflict, match=r"not empty \(logs\)"):
        refuse_used(data)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_restore_into_a_failing_bucket_can_be_done_again_until_all_is_there(plain, tmp_path, fault):
    bucket = FakeBucket()
    for at in range(1, 100):
        database = Database.open(f"sqlite:///{tmp_path / f'try{at}.sqlite'}")
        blobs = ObjectBlobs(bucket, tmp_path / "new", budget=1000)
        bucket.held.clear()
        bucket.fail(fault, at)
        try:
            restore(plain, database, blobs)
        except NotReady:
            assert Catalog(database).since(0).revision == 0 and fault in (REFUSED, UNHEARD)
        failed = bucket.failed
        bucket.fail("", 0)
        if Catalog(database).since(0).revision == 0:
            restore(plain, database, blobs)
        assert all(map(blobs.verify, Catalog(database).digests())) and blobs.check() == ()
        database.close()
        if not failed:
            break
    assert at > 6 and contents_of(plain).blobs == 3


def test_a_restored_service_serves_what_it_served(plain, tmp_path):
    opened = open_registry(tmp_path / "data")
    restore(plain, opened.database, opened.blobs)
    asyncio.run(opened.directory.refresh())
    names = opened.directory.names("acme", "adapter")
    assert [record.name for record in names] == ["ada"]
    assert publish(opened, b"three", promote=True) in opened.catalog.digests()
    opened.database.close()
