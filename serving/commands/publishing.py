"""`chorus push`: its arguments; what it does stands in `pushing`, which needs torch."""

from pathlib import Path
from typing import Annotated

import typer

from adapters.refs import parse_name
from serving.commands import inspecting, tables
from serving.commands.options import (
    HUB,
    Fitting,
    HeadSeed,
    InEmbeddings,
    Json,
    Labels,
    Name,
    ProblemType,
    Source,
    TaskId,
    connect,
    split,
)

app = typer.Typer()


@app.command()
def push(
    ctx: typer.Context,
    source: Source,
    name: Name,
    *,
    promote: Annotated[bool, typer.Option("--promote", help="Move `prod` to this version.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it in full and try it, and publish nothing.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="TAG=VALUE", help="Say so of the version.")] = None,
    embedding: InEmbeddings = False,
    labels: Labels = "",
    problem_type: ProblemType = "",
    head_seed: HeadSeed = None,
    task_id: TaskId = None,
    backbone: Fitting = None,
    as_json: Json = False,
) -> None:
    """Publish an adapter, head, fusion or token embedding, or a saved setup as a target; pickles are converted first."""
    _refuse_early(source, name)
    from serving.commands import pushing  # noqa: PLC0415 - torch, only where it is asked for
    from serving.commands.packages import Reading  # noqa: PLC0415 - as above

    wish = pushing.Wish(promote, embedding, tables.pairs(tag or (), "TAG=VALUE"))
    reading = Reading(source, backbone, split(labels), problem_type or None, head_seed, task_id)
    with connect(ctx) as client:
        if dry_run:
            found = pushing.dry_run(client, reading, name)
            if as_json:
                tables.print_json(found[0] if len(found) == 1 else {"items": found})
            else:
                inspecting.show(found)
            return
        answer = pushing.push(client, reading, name, wish)
    if as_json:
        tables.print_json(answer)


def _refuse_early(source: Path, name: str) -> None:
    """What is wrong on the command line is told before torch is imported, which takes seconds."""
    parse_name(name)
    if not source.exists() and not str(source).startswith(HUB):
        raise FileNotFoundError(f"there is no {source}")
