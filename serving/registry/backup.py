"""A backup: one consistent state of the registry, and a verified copy of every blob that it refers to.

<folder>/registry.jsonl          rows, as `serving.registry.dump` writes them
<folder>/blobs/sha256/ab/<hex>   blobs
<folder>/backup.json             what is here, written last: without it the backup was not finished
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from adapters.files import fsync_folder
from serving.errors import Conflict, NotReady
from serving.registry import dump
from serving.registry.blobs.refusals import storing
from serving.registry.blobs.store import BlobLost, BlobRotten, Blobs, key_of
from serving.registry.database import Database

FORMAT = "chorus-backup/1"
ROWS, BLOBS, CONTENTS = "registry.jsonl", "blobs", "backup.json"
_PATIENCE = 3  # refusals of the store in a row, after which it is away, and not one of its blobs unreadable


@dataclass(frozen=True)
class Contents:
    """What a backup holds; `damaged` are digests that the store could not give back when it was made."""

    schema: str
    revision: int
    created: float  # UTC seconds
    rows: dict[str, int]  # by table
    rows_sha256: str
    blobs: int
    nbytes: int
    damaged: tuple[str, ...]
    format: str = FORMAT


def back_up(database: Database, blobs: Blobs, folder: Path, clock: Callable[[], float] = time.time) -> Contents:
    """Write a backup into a new or empty folder; a service may go on publishing meanwhile.

    Bytes that the store lost, damaged or can not read are told in `damaged`, and everything else is there all the same.
    Raises `Conflict` for a folder with something in it, and `NotReady` where the database, the store or the disk gives up.
    """
    with storing():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Conflict(f"{folder} is not empty: name a new folder", code="not_empty")
    sizes: dict[str, int] = {}
    with database.read() as connection, _written(folder / ROWS) as (file, written):
        schema, revision, counts = dump.schema_of(connection), 0, Counter[str]()
        for table, row in dump.rows(connection):
            file.write(dump.line(table, row))
            counts[table] += 1
            if table == "versions":
                sizes[row["digest"]] = row["nbytes"]
            elif table == "meta":
                revision = row["revision"]
    damaged = _copied(blobs, sorted(sizes), folder / BLOBS)
    held = sizes.keys() - set(damaged)
    contents = Contents(
        schema,
        revision,
        clock(),
        dict(counts),
        written["sha256"],
        len(held),
        sum(sizes[digest] for digest in held),
        damaged,
    )
    with _written(folder / CONTENTS) as (file, _):
        file.write(json.dumps(asdict(contents), indent=2) + "\n")
    return contents


def _copied(blobs: Blobs, digests: Sequence[str], root: Path) -> tuple[str, ...]:
    """Copy everything; those that the store has not, or not right, or can not read while it reads others."""
    damaged, refused, read = list[str](), 0, 0
    for digest in digests:
        target = root / key_of(digest)
        with storing():
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            blobs.fetch(digest, target)
            refused, read = 0, read + 1
        except (BlobLost, BlobRotten):
            damaged.append(digest)
            refused, read = 0, read + 1
        except NotReady:
            if _readable(blobs, digest):
                raise  # it is the disk of the backup
            damaged.append(digest)
            refused += 1
            if refused == _PATIENCE or (refused == len(digests) and not read):
                raise
    return tuple(damaged)


def _readable(blobs: Blobs, digest: str) -> bool:
    try:
        blobs.state(digest)
    except NotReady:
        return False
    return True


@contextmanager
def _written(path: Path) -> Iterator[tuple[TextIO, dict[str, Any]]]:
    """A text file that is there, and on the disk, only when all of it was written; then its sha256 is told."""
    part, told = path.with_name(path.name + ".part"), dict[str, Any]()
    with storing():
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # hashes of keys are in it
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file, told
            file.flush()
            os.fsync(file.fileno())
        with part.open("rb") as read:
            told["sha256"] = hashlib.file_digest(read, "sha256").hexdigest()
        part.replace(path)
        fsync_folder(path.parent)
