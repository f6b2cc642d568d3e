"""`chorus backup` and `chorus restore`: the registry and its blobs in a folder, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.commands import tables
from serving.commands.options import BlobUrl, DatabaseUrl, Json
from serving.commands.stores import DataFolder, open_stores

app = typer.Typer()


@app.command("backup")
def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is new or empty.")],
    *,
    data: DataFolder,
    database_url: DatabaseUrl = "",
    blob_url: BlobUrl = "",
    as_json: Json = False,
) -> None:
    """Copy the registry and every blob in use; the service may be running. Exit code 1 where blobs were damaged."""
    from serving.registry.backup import back_up  # noqa: PLC0415 - SQL, only where it is asked for

    with open_stores(data, database_url, blob_url) as stores:
        made = back_up(stores.database, stores.blobs, folder)
    if as_json:
        tables.print_json(asdict(made))
    else:
        for digest in made.damaged:
            tables.done(f"damaged  {digest}")
        tables.done(f"revision {made.revision}: {sum(made.rows.values())} rows, {made.blobs} blobs in {folder}")
    if made.damaged:
        raise typer.Exit(1)


@app.command("restore")
def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `chorus backup` wrote.")],
    *,
    data: Annotated[Path, typer.Option("--data", help="A data folder that is new or empty.")],
    database_url: DatabaseUrl = "",
    blob_url: BlobUrl = "",
    as_json: Json = False,
) -> None:
    """Make a data folder (and its database) out of a backup; no service may be running on them."""
    from serving.registry import restore as restoring  # noqa: PLC0415 - SQL, only where it is asked for

    restoring.contents_of(folder)  # before anything is made: the folder may be the wrong one
    restoring.refuse_used(data)
    with open_stores(data, database_url, blob_url, new=True) as stores:
        made = restoring.restore(folder, stores.database, stores.blobs)
    if as_json:
        tables.print_json(asdict(made))
    else:
        tables.done(f"restored {sum(made.rows.values())} rows and {made.blobs} blobs into {data}")
