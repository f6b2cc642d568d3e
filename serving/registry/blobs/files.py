"""How blobs touch the disk: hashes of files, names that survive a power cut, and errors of the disk as refusals."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import NotReady

RETRY_AFTER = 2.0  # seconds: a full disk or an absent store is seldom well again at once


@contextmanager
def storing() -> Iterator[None]:
    """Errors of the disk as `NotReady`; the answer names no path."""
    try:
        yield
    except OSError as error:
        raise away(error.strerror or type(error).__name__) from error


def away(reason: str) -> NotReady:
    """The refusal while bytes can neither be stored nor read."""
    return NotReady(
        f"the blob store can not do this now: {reason}", code="storage_unavailable", retry_after=RETRY_AFTER
    )


def digest_of(path: Path) -> str:
    """`sha256:<64 hex>` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def fsync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
