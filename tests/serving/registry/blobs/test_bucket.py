"""The requests to a bucket, against a real server that speaks S3, and against servers that stall."""

import socket
import threading
import time

import pytest

from adapters.cache.disk import DiskTier
from adapters.errors import PackageLost
from serving.config import ServiceSettings
from serving.errors import BadRequest, NotReady
from serving.registry.blobs.bucket import SINGLE, ObstoreBucket
from serving.registry.blobs.opening import open_blobs
from serving.registry.blobs.source import source_of


@pytest.fixture
def bucket(bucket_url):
    return ObstoreBucket.open(bucket_url, deadline_s=20.0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"some bytes")
    return path


def test_what_is_put_is_there_as_a_whole_and_in_ranges(bucket, file):
    assert bucket.put("sha256/ab/x", file, create=True)
    held = bucket.head("sha256/ab/x")
    assert (held.key, held.nbytes) == ("sha256/ab/x", 10) and abs(held.modified - time.time()) < 600
    assert bucket.read("sha256/ab/x", 0, 10) == b"some bytes"
    assert bucket.read("sha256/ab/x", 5, 8) == b"byt"
    assert list(bucket.objects("sha256")) == [held]


def test_what_is_not_there_is_nothing(bucket):
    assert bucket.head("sha256/ab/x") is None
    assert bucket.read("sha256/ab/x", 0, 1) is None
    assert list(bucket.objects("sha256")) == []
    bucket.delete("sha256/ab/x")


@pytest.mark.parametrize("size", [10, SINGLE + 1], ids=["one request", "in parts"])
def test_only_the_first_creates_and_anyone_may_overwrite(bucket, file, size):
    file.write_bytes(b"1" * size)
    assert bucket.put("k", file, create=True)
    file.write_bytes(b"2" * size)
    assert not bucket.put("k", file, create=True)
    assert bucket.read("k", 0, size) == b"1" * size
    assert bucket.put("k", file, create=False)
    assert bucket.read("k", 0, size) == b"2" * size


def test_what_is_deleted_is_gone_and_others_stay(bucket, file):
    for key in ("sha256/a", "sha256/b", "other/c"):
        bucket.put(key, file, create=True)
    bucket.delete("sha256/a")
    assert [held.key for held in bucket.objects("sha256")] == ["sha256/b"]


def test_a_listing_goes_over_many_pages(bucket, file, monkeypatch):
    monkeypatch.setattr("serving.registry.blobs.bucket._LISTED", 2)
    for number in range(7):
        bucket.put(f"sha256/{number}", file, create=True)
    assert len(list(bucket.objects("sha256"))) == 7


def test_a_bucket_that_is_not_there_is_not_ready(bucket_url, file):
    bucket = ObstoreBucket.open("s3://nobody-made-this/blobs", deadline_s=20.0)
    with pytest.raises(NotReady) as caught:
        bucket.put("k", file, create=True)
    assert (caught.value.code, caught.value.retry_after) == ("storage_unavailable", 2.0)
    with pytest.raises(NotReady):
        list(bucket.objects("sha256"))


@pytest.mark.parametrize(
    "url", ["", "s3:", "s3://", "/tmp/x", "file:///tmp/x", "http://169.254.169.254/", "memory:///"]
)
def test_a_url_that_names_no_bucket_is_refused(url):
    with pytest.raises(BadRequest, match="names no store: write s3://"):
        ObstoreBucket.open(url, 1.0)


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "az://container/prefix"])
def test_other_clouds_are_opened_by_their_own_schemes(url, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert isinstance(ObstoreBucket.open(url, 1.0), ObstoreBucket)


def test_what_one_machine_published_another_one_loads_and_heals_when_its_copy_rots(bucket_url, tmp_path):
    here, there = (
        open_blobs(ServiceSettings(backbone=tmp_path, data=tmp_path / name, blob_url=bucket_url))
        for name in ("here", "there")
    )
    upload = here.receive()
    upload.write(b"weights" * 1000)
    here.keep(upload)
    upload.discard()
    disk, source = DiskTier(tmp_path / "cache", 1 << 20), source_of(there)
    loaded = disk.fetch(upload.digest, source)
    assert loaded.read_bytes() == b"weights" * 1000
    loaded.write_bytes(b"rotten")  # and with it the copy that it is linked to
    assert disk.fetch(upload.digest, source).read_bytes() == b"weights" * 1000
    assert here.delete(upload.digest, before=float("inf")) and there.state(upload.digest) == "lost"
    disk.drop(upload.digest)
    there.local(upload.digest).unlink()
    with pytest.raises(PackageLost):
        disk.fetch(upload.digest, source)
    assert disk.check() == there.check() == here.check() == ()


class Server:
    """Accepts connections; sends what it is told to, and then nothing more, until it is closed."""

    def __init__(self, sends=b""):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._open = []
        self._sends = sends
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        for connection in self._open:
            connection.close()

    def _serve(self):
        while self._socket.fileno() >= 0:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            if self._sends:
                connection.recv(65536)
                connection.sendall(self._sends)


HALF = b'HTTP/1.1 206 Partial Content\r\ncontent-length: 10\r\ncontent-range: bytes 0-9/10\r\netag: "x"\r\n'
HALF += b"last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nsome"


@pytest.mark.parametrize("sends", [b"", HALF], ids=["silent", "half an answer"])
def test_a_server_that_stalls_is_given_up_at_the_deadline(s3, file, monkeypatch, sends):
    server = Server(sends)
    for name, value in {**s3.environment, "AWS_ENDPOINT_URL": server.endpoint}.items():
        monkeypatch.setenv(name, value)
    bucket = ObstoreBucket.open("s3://b/p", deadline_s=0.6)
    requests = [lambda: bucket.read("k", 0, 10)]
    if not sends:
        requests += [lambda: bucket.head("k"), lambda: bucket.put("k", file, create=True), lambda: bucket.delete("k")]
        requests += [lambda: list(bucket.objects("sha256"))]
    for request in requests:
        with pytest.raises(NotReady) as caught:
            request()
        assert caught.value.code == "storage_unavailable"
    server.close()


def test_a_server_that_is_not_there_is_not_ready(s3, file, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    for name, value in {**s3.environment, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotReady) as caught:
        ObstoreBucket.open("s3://b/p", deadline_s=0.6).put("k", file, create=True)
    assert endpoint not in caught.value.detail
