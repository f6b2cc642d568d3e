"""`chorus gc`: remove blobs that no version refers to."""

from dataclasses import asdict
from typing import Annotated

import typer

from serving.commands import tables
from serving.commands.options import BlobUrl, DatabaseUrl, Json
from serving.commands.stores import DataFolder, open_stores, seconds

app = typer.Typer()


@app.command("gc")
def collect(
    *,
    data: DataFolder,
    database_url: DatabaseUrl = "",
    blob_url: BlobUrl = "",
    grace: Annotated[str, typer.Option(metavar="DURATION", help="Younger blobs stay: 90s, 30m, 24h, 7d.")] = "24h",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown", help="Whoever claimed the blobs, make all this registry's, and remove those it does not know."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove blobs that no version refers to; the service may be running."""
    from serving.registry import garbage  # noqa: PLC0415 - SQL, only where it is asked for

    with open_stores(data, database_url, blob_url) as stores:
        done = garbage.collect(stores.database, stores.blobs, grace_s=seconds(grace), dry_run=dry_run, unknown=unknown)
    if as_json:
        tables.print_json({**asdict(done), "dry_run": dry_run})
        return
    verb = "would remove" if dry_run else "removed"
    tables.done(
        f"{verb} {done.removed} blobs ({tables.size(done.removed_bytes)}) and {done.uploads} broken uploads; "
        f"{done.kept} are in use, {done.young} are younger than {grace}"
    )
