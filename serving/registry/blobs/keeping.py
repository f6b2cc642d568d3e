"""A blob and the row that refers to it, as one step: no collector of garbage comes between the two.

Bytes are kept before the transaction that refers to them, and asked after inside of it, by SQL alone: no request to a
store is made while others wait to write. `serving.registry.doom` says why that is enough.
"""

from collections.abc import Callable
from typing import TypeVar

from serving.registry.blobs.refusals import away
from serving.registry.blobs.store import BlobLost, Blobs
from serving.registry.blobs.uploads import Upload

_TRIES = 3  # a collector leaves alone what was kept a moment ago: it can not win twice
S = TypeVar("S")
T = TypeVar("T")


def keep_and_write(begin: Callable[[str], S], blobs: Blobs, upload: Upload, write: Callable[[S], T]) -> T:
    """Keep an upload, then write what refers to it.

    `begin` is asked with the digest before anything is kept; `write` has to try what it answers inside of the
    transaction, where that raises `BlobLost` if the bytes may have been removed since. Raises what the three of them
    raise, and `NotReady` where the bytes went away again and again.
    """
    for _ in range(_TRIES):
        still = begin(upload.digest)
        blobs.keep(upload)
        try:
            return write(still)
        except BlobLost as error:
            if error.digest != upload.digest:
                raise
    raise away("what was stored was removed at once")
