import os

from tests.serving.commands.storage import filled, path_of
from tests.serving.hand import Hand
from tests.serving.registry.given import ACME, open_registry

NOWHERE = Hand("http://127.0.0.1:1")


def retire(data, name):
    registry = open_registry(data)
    registry.catalog.delete(ACME, "adapter", name, None)
    registry.database.close()


def test_garbage_is_told_then_removed_and_counted(tmp_path):
    used, old = filled(tmp_path, b"used", b"old")
    retire(tmp_path, "n1")
    for digest in (used, old):
        os.utime(path_of(tmp_path, digest), (1.0, 1.0))
    told = NOWHERE.json("gc", "--data", tmp_path, "--grace", "0s", "--dry-run")
    assert (told["removed"], told["kept"], told["dry_run"]) == (1, 1, True) and path_of(tmp_path, old).exists()
    assert "removed 1 blobs (3 B)" in NOWHERE.run("gc", "--data", tmp_path, "--grace", "0s").stdout
    assert path_of(tmp_path, used).exists() and not path_of(tmp_path, old).exists()


def test_by_default_what_was_retired_today_stays(tmp_path):
    (old,) = filled(tmp_path, b"old")
    retire(tmp_path, "n0")
    os.utime(path_of(tmp_path, old), (1.0, 1.0))
    assert NOWHERE.json("gc", "--data", tmp_path)["removed"] == 0 and path_of(tmp_path, old).exists()


def test_a_folder_without_a_registry_loses_nothing(tmp_path):
    (digest,) = filled(tmp_path, b"used")
    os.utime(path_of(tmp_path, digest), (1.0, 1.0))
    for name in tmp_path.glob("registry.sqlite*"):
        name.unlink()
    assert "holds no registry" in NOWHERE.run("gc", "--data", tmp_path, "--grace", "0s", code=3).stderr
    result = NOWHERE.run("gc", "--data", tmp_path, "--database-url", f"sqlite:///{tmp_path}/other.sqlite", code=4)
    assert "belong to the registry" in result.stderr and path_of(tmp_path, digest).exists()


def test_a_wrong_duration_is_an_error(tmp_path):
    filled(tmp_path)
    assert "not a duration" in NOWHERE.run("gc", "--data", tmp_path, "--grace", "soon", code=1).stderr
