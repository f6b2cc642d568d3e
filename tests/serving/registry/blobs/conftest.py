import pytest

from serving.registry.blobs.bucket import ObstoreBucket
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.objects import ObjectBlobs
from tests.serving.registry.blobs.fake_bucket import FakeBucket
from tests.serving.registry.blobs.s3 import S3


@pytest.fixture(scope="session")
def s3():
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def bucket_url(s3, monkeypatch):
    """A new bucket, and the environment in which it is reached."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.bucket()


@pytest.fixture(params=["local", "bucket", "s3"])
def any_blobs(request, tmp_path):
    """An empty store of every kind."""
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    bucket = (
        FakeBucket()
        if request.param == "bucket"
        else ObstoreBucket.open(request.getfixturevalue("bucket_url"), deadline_s=20.0)
    )
    return ObjectBlobs(bucket, tmp_path / "blobs", budget=1 << 30)
