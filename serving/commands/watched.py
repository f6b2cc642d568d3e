"""`chorus watch`: what became of the folders below `serve --watch DIR`."""

import typer

from serving.commands import tables
from serving.commands.options import Json, connect

app = typer.Typer()


@app.command()
def watch(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what was published from the watched folder, and what was refused and why."""
    with connect(ctx) as client:
        found = client.watched()
    if as_json:
        tables.print_json(found)
        return
    if not found["watching"]:
        tables.note("no folder is watched: `chorus serve --watch DIR`")
    tables.table(
        ("PLACE", "STATE", "VERSION", "AT", "WHY"),
        [
            (
                item["place"],
                item["state"],
                f"{item['tenant']}: {item['name']}@{item['version']}" if item["version"] else "-",
                item["at"],
                "; ".join(item["reasons"]),
            )
            for item in found["items"]
        ],
    )
