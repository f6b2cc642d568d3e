"""`chorus scrub`: read every blob in use again, and put in quarantine what is lost or rotten."""

from dataclasses import asdict
from typing import Annotated

import typer

from serving.commands import tables
from serving.commands.options import BlobUrl, DatabaseUrl, Json
from serving.commands.stores import DataFolder, open_stores
from serving.config import parse_size

app = typer.Typer()


@app.command("scrub")
def scrub(
    *,
    data: DataFolder,
    database_url: DatabaseUrl = "",
    blob_url: BlobUrl = "",
    rate: Annotated[
        str, typer.Option(metavar="SIZE", help="Bytes per second at most (50MiB); default: no bound.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Read every blob in use again; what is lost or rotten goes into quarantine, and the exit code is 1."""
    from serving.registry.scrub import Scrubber  # noqa: PLC0415 - SQL, only where it is asked for

    with open_stores(data, database_url, blob_url) as stores:
        found = Scrubber(stores.database, stores.blobs, rate=parse_size(rate) if rate else None).scrub()
    if as_json:
        tables.print_json({**asdict(found), "sound": found.sound})
    else:
        for state in ("lost", "rotten", "unreadable", "lifted"):
            for digest in getattr(found, state):
                tables.done(f"{state}  {digest}")
        wrong = len(found.lost) + len(found.rotten) + len(found.unreadable)
        tables.done(f"read {found.examined} blobs ({tables.size(found.nbytes)}): {wrong or 'none'} wrong")
    if not found.sound:
        raise typer.Exit(1)
