"""A blob and the row that refers to it, as one step: no collector of garbage comes between the two.

Bytes are kept before the transaction that refers to them, and looked for again inside of it. A collector deletes inside
of a transaction of its own, after it has seen there that no row refers to them. Writes of the registry come one after
another (`serving.registry.database`), so either the row is there when the collector looks, or the bytes are missing when
the writer looks; then they are kept again, out of the same upload.
"""

from collections.abc import Callable
from typing import TypeVar

from serving.registry.blobs.files import away
from serving.registry.blobs.store import BlobLost, Blobs
from serving.registry.blobs.uploads import Upload

Still = Callable[[], None]  # called inside of the transaction; raises `BlobLost` where the bytes are not there any more
_TRIES = 3  # a collector leaves alone what was kept a moment ago: it can not win twice
T = TypeVar("T")


def keep_and_write(blobs: Blobs, upload: Upload, write: Callable[[Still], T]) -> T:
    """Keep an upload, then write what refers to it; `write` has to call what it is given inside of its transaction.

    Raises what `keep` and `write` raise, and `NotReady` where the bytes went away again and again.
    """

    def still() -> None:
        if not blobs.present(upload.digest):
            raise BlobLost(upload.digest)

    for _ in range(_TRIES):
        blobs.keep(upload)
        try:
            return write(still)
        except BlobLost as error:
            if error.digest != upload.digest:
                raise
    raise away("what was stored was removed at once")
