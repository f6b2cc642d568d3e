"""A backup becomes a registry again, in any kind of database and blob store; nothing is written before all was verified."""

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import insert, select

from adapters.files import digest_of
from serving.errors import Conflict, Unprocessable
from serving.registry import dump
from serving.registry.backup import BLOBS, CONTENTS, FORMAT, ROWS, Contents
from serving.registry.blobs.refusals import storing
from serving.registry.blobs.store import PIECE, Blobs, key_of
from serving.registry.database import Database
from serving.registry.lookup import read_revision
from serving.registry.suspicion import REASONS
from serving.registry.tables import QUARANTINE

_SHOWN = 10  # digests that a refusal names
LEFT_BY_A_RESTORE = ("blobs", "registry.sqlite")  # beginnings of names in a data folder


def contents_of(folder: Path) -> Contents:
    """What a backup says of itself; raises `Unprocessable` for a folder that is none, or is not finished."""
    try:
        held = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        contents = Contents(**{**held, "damaged": tuple(held["damaged"])})
    except FileNotFoundError as error:
        raise Unprocessable(f"{folder} is no backup, or one that was not finished: it has no {CONTENTS}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unprocessable(f"{folder / CONTENTS} can not be understood") from error
    if contents.format != FORMAT:
        raise Unprocessable(f"{folder} has the format {contents.format!r}, and this release reads {FORMAT!r}")
    return contents


def verified_digests(folder: Path, contents: Contents) -> tuple[str, ...]:
    """Read every byte of a backup; the digests that are there. Raises `Unprocessable` naming what is wrong."""
    with storing():
        if digest_of(folder / ROWS) != f"sha256:{contents.rows_sha256}":
            raise Unprocessable(f"{ROWS} of the backup is damaged")
    with (folder / ROWS).open(encoding="utf-8") as lines:
        named = {row["digest"] for table, row in dump.parsed(lines) if table == "versions"}
    digests = tuple(sorted(named - set(contents.damaged)))
    wrong = [digest for digest in digests if not _is_right(folder, digest)]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise Unprocessable(f"blobs of the backup are lost or damaged: {', '.join(wrong[:_SHOWN])}{more}")
    return digests


def refuse_used(data: Path) -> None:
    """Raise `Conflict` for a data folder with something in it that no interrupted restore has left there."""
    strange = (
        sorted(p.name for p in data.iterdir() if not p.name.startswith(LEFT_BY_A_RESTORE)) if data.is_dir() else []
    )
    if strange:
        raise Conflict(f"{data} is not empty ({', '.join(strange[:_SHOWN])}): name a new folder", code="not_empty")


def restore(folder: Path, database: Database, blobs: Blobs) -> Contents:
    """Fill an empty registry and its blob store; all of the rows appear at once, after all of the blobs.

    What was damaged when the backup was made is in quarantine afterwards. Raises `Unprocessable` for a backup that is not
    whole, and `Conflict` for a registry that was ever written to, or a backup of a newer release.
    """
    contents = contents_of(folder)
    dump.refuse_unknown_schema(contents.schema)
    digests = verified_digests(folder, contents)
    with database.read() as connection:
        _refuse_written(read_revision(connection))
    for digest in digests:
        _keep(blobs, folder / BLOBS / key_of(digest), digest)
    with database.write() as write, (folder / ROWS).open(encoding="utf-8") as lines:
        _refuse_written(write.revision - 1)
        dump.fill(write, dump.parsed(lines))
        held = frozenset(write.connection.execute(select(QUARANTINE.c.digest)).scalars())
        missing: Sequence[str] = [digest for digest in contents.damaged if digest not in held]
        if missing:
            rows = [{"digest": digest, "reason": REASONS["lost"], "at": contents.created} for digest in missing]
            write.connection.execute(insert(QUARANTINE), rows)
    return contents


def _is_right(folder: Path, digest: str) -> bool:
    with storing():
        try:
            return digest_of(folder / BLOBS / key_of(digest)) == digest
        except FileNotFoundError:
            return False


def _refuse_written(revision: int) -> None:
    if revision:
        raise Conflict(f"this registry is at revision {revision}: restore into an empty one", code="not_empty")


def _keep(blobs: Blobs, path: Path, digest: str) -> None:
    upload = blobs.receive()
    try:
        with storing(), path.open("rb") as file:
            while piece := file.read(PIECE):
                upload.write(piece)
        if upload.digest != digest:
            raise Unprocessable(f"the blob {digest} of the backup changed while it was read")
        blobs.keep(upload)
    finally:
        upload.discard()
