"""What engines fetch packages from: a blob store, with its refusals in the library's words."""

from collections.abc import Callable
from pathlib import Path

from adapters.errors import PackageLost, PackageRotten, StoreUnavailable
from serving.errors import NotReady
from serving.registry.blobs.store import BlobLost, BlobRotten, Blobs


def source_of(blobs: Blobs) -> Callable[[str], Path]:
    """A digest to a local file; raises `PackageLost`, `PackageRotten`, and `StoreUnavailable` for what may pass."""

    def local(digest: str) -> Path:
        try:
            return blobs.local(digest)
        except BlobLost as error:
            raise PackageLost(error.detail, digest) from error
        except BlobRotten as error:
            raise PackageRotten(error.detail, digest) from error
        except NotReady as error:
            raise StoreUnavailable(error.detail, error.retry_after) from error

    return local
