import pytest

from adapters.errors import LoadFailed, PackageLost, PackageRotten, StoreUnavailable
from serving.errors import from_library
from serving.registry.blobs.refusals import away
from serving.registry.blobs.source import source_of
from serving.registry.blobs.store import BlobLost, BlobRotten
from tests.serving.registry.given import digest_of

DIGEST = digest_of(b"x")


class Store:
    def __init__(self, answer):
        self.answer = answer

    def local(self, digest):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("refusal", "error", "status"),
    [
        (BlobLost(DIGEST), PackageLost, 424),
        (BlobRotten(DIGEST), PackageRotten, 424),
        (away("full"), StoreUnavailable, 503),
    ],
)
def test_refusals_become_errors_of_the_library_and_come_back_as_they_were(refusal, error, status):
    with pytest.raises(error) as caught:
        source_of(Store(refusal))(DIGEST)
    assert isinstance(caught.value, LoadFailed)
    back = from_library(caught.value)
    assert (back.code, back.status, back.detail) == (refusal.code, status, refusal.detail)
    assert back.retry_after == refusal.retry_after
    assert getattr(caught.value, "digest", DIGEST) == DIGEST


def test_a_file_is_passed_on(tmp_path):
    assert source_of(Store(tmp_path))(DIGEST) == tmp_path
