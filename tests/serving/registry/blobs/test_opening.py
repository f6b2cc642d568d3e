import sys
from dataclasses import replace

import pytest

from serving.config import ServiceSettings
from serving.errors import BadRequest
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.objects import ObjectBlobs
from serving.registry.blobs.opening import open_blobs


def settings(tmp_path, url=""):
    return ServiceSettings(backbone=tmp_path, data=tmp_path, blob_url=url)


def test_without_a_url_blobs_are_files_of_the_data_folder(tmp_path):
    blobs = open_blobs(settings(tmp_path))
    assert isinstance(blobs, LocalBlobs)
    assert (tmp_path / "blobs" / "sha256").is_dir()


def test_a_url_opens_a_bucket_with_copies_in_the_data_folder(tmp_path):
    blobs = open_blobs(settings(tmp_path, "s3://bucket/prefix"))
    assert isinstance(blobs, ObjectBlobs)
    assert (tmp_path / "blobs" / "copies").is_dir() and not (tmp_path / "blobs" / "sha256").exists()


def test_deletions_settle_twenty_deadlines_later_at_least(tmp_path):
    slow = replace(settings(tmp_path, "s3://bucket/prefix"), blob_deadline_s=60.0)
    assert open_blobs(settings(tmp_path, "s3://bucket/prefix")).settle_s == 120.0
    assert open_blobs(slow).settle_s == 1200.0


def test_a_wrong_url_is_refused(tmp_path):
    with pytest.raises(BadRequest, match="write s3://"):
        open_blobs(settings(tmp_path, "ftp://somewhere"))


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "serving.registry.blobs.bucket")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BadRequest, match=r"chorus\[cloud\]"):
        open_blobs(settings(tmp_path, "s3://bucket/prefix"))
