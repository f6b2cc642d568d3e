import pytest

from loadtests.proofs.object_store import ObjectStore
from serving.errors import NotReady
from serving.registry.blobs.bucket import ObstoreBucket

DATA = b"0123456789" * 1000


@pytest.fixture(scope="module")
def store():
    held = ObjectStore()
    yield held
    held.close()


@pytest.fixture
def bucket(store, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    yield ObstoreBucket.open(store.url, deadline_s=2.0)
    store.proxy.turn("pass")


def test_what_is_stored_comes_back_unless_it_is_damaged_on_its_way(store, bucket, tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    assert bucket.put("key", tmp_path / "file", create=True)
    assert bucket.read("key", 0, len(DATA)) == DATA
    store.proxy.turn("corrupt")
    damaged = bucket.read("key", 0, len(DATA))
    assert len(damaged) == len(DATA)
    assert damaged != DATA
    assert store.proxy.damaged > 0


def test_a_store_that_stalls_gives_no_answer(store, bucket, tmp_path):
    store.proxy.turn("stall")
    with pytest.raises(NotReady):
        bucket.head("key")
    store.proxy.turn("pass")
    assert bucket.head("nothing") is None
