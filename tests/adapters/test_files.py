import hashlib
import os
from pathlib import Path

from adapters.files import digest_of, fsync_folder


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(data)
    assert digest_of(tmp_path / "file") == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_names_in_a_folder_are_brought_to_the_disk_and_nothing_stays_open(tmp_path, monkeypatch):
    descriptors = Path("/proc/self/fd")
    synced, before = [], len(list(descriptors.iterdir()))
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((descriptors / str(number)).readlink()))
    fsync_folder(tmp_path)
    assert synced == [tmp_path] and len(list(descriptors.iterdir())) == before
