import errno
import os
from pathlib import Path

import pytest

from serving.errors import NotReady
from serving.registry.blobs.files import away, digest_of, fsync_folder, storing
from tests.serving.registry import given


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(data)
    assert digest_of(tmp_path / "file") == given.digest_of(data)


def test_errors_of_the_disk_name_no_path_and_say_when_to_come_again(tmp_path):
    with pytest.raises(NotReady) as caught, storing():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tmp_path)
    assert "No space left" in caught.value.detail and str(tmp_path) not in caught.value.detail
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "storage_unavailable", 2.0)
    assert away("x").code == caught.value.code


def test_other_errors_and_refusals_pass():
    with pytest.raises(ValueError), storing():
        raise ValueError
    refusal = NotReady("another")
    with pytest.raises(NotReady) as caught, storing():
        raise refusal
    assert caught.value is refusal


def test_the_names_in_a_folder_are_brought_to_the_disk_and_nothing_stays_open(tmp_path, monkeypatch):
    descriptors = Path("/proc/self/fd")
    synced, before = [], len(list(descriptors.iterdir()))
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((descriptors / str(number)).readlink()))
    fsync_folder(tmp_path)
    assert synced == [tmp_path] and len(list(descriptors.iterdir())) == before
