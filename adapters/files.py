"""Files as they lie on a disk: the digest of their bytes, and names that survive a power cut."""

import hashlib
import os
from pathlib import Path


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
