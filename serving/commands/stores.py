"""The registry and the blobs of a service, opened without one: for the commands that tend what is stored."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.config import ServiceSettings
from serving.errors import BadRequest, NotFound
from serving.registry.blobs.store import Blobs

if TYPE_CHECKING:
    from serving.registry.database import Database

DataFolder = Annotated[Path, typer.Option("--data", help="Data folder of the service; it may be running.")]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Stores:
    """What a service keeps: rows and bytes."""

    database: "Database"
    blobs: Blobs


@contextmanager
def open_stores(data: Path, database_url: str, blob_url: str, *, new: bool = False) -> Iterator[Stores]:
    """Both stores; raises `NotFound` where there is no registry yet, unless a `new` one is wanted.

    Raises `Conflict` where the folder's service uses another registry, or one that this release would have to migrate.
    """
    from serving.registry.blobs.opening import open_blobs  # noqa: PLC0415 - SQL, only where it is asked for
    from serving.registry.database import Database  # noqa: PLC0415 - as above
    from serving.registry.whereabouts import refuse_elsewhere  # noqa: PLC0415 - as above

    settings = ServiceSettings(backbone=Path(), data=data, database_url=database_url, blob_url=blob_url)
    if not (new or database_url or (data / "registry.sqlite").is_file()):
        raise NotFound(f"{data} holds no registry: name the folder of --data, or --database-url")
    database = Database.open(settings.sql_url, upgrade=False)
    try:
        if not new:
            refuse_elsewhere(data, database)
        yield Stores(database, open_blobs(settings))
    finally:
        database.close()


def seconds(text: str) -> float:
    """`90s`, `30m`, `24h` or `7d` in seconds; raises `BadRequest` naming the accepted units."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is not a duration: write a number and one of s, m, h, d")
    return float(match[1]) * _SECONDS[match[2]]
