"""`chorus target put ls show rm`: stacks with their vocabulary and head under one versioned name."""

from typing import Annotated

import typer

from serving.commands import tables
from serving.commands.options import Json, Name, Reference, composition_of, connect

app = typer.Typer(no_args_is_help=True, help="Put a stack, an embedding and a head under one versioned name.")


@app.command()
def put(
    ctx: typer.Context,
    name: Name,
    *,
    adapters: Annotated[
        str, typer.Option("--adapters", "-a", help="`lang+sentiment@3~embedding`, or a composition as JSON.")
    ],
    embedding: Annotated[str | None, typer.Option(help="Token embedding.")] = None,
    head: Annotated[str | None, typer.Option(help="The package whose head answers.")] = None,
    promote: Annotated[bool, typer.Option("--promote", help="Move `prod` to this version.")] = False,
    as_json: Json = False,
) -> None:
    """Keep a composition under a name; all that it names is pinned to what it is now."""
    with connect(ctx) as client:
        answer = client.targets.put(name, composition_of(adapters), embedding=embedding, head=head, promote=promote)
    if as_json:
        tables.print_json(answer)
    else:
        tables.note(tables.published(answer))


@app.command()
def ls(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only names that start so.")] = "",
    as_json: Json = False,
) -> None:
    """List the targets and what they stand for."""
    with connect(ctx) as client:
        found = client.targets.names(prefix)
    if as_json:
        tables.print_json({"items": found})
    else:
        tables.print_targets(found)


@app.command()
def show(ctx: typer.Context, reference: Reference, as_json: Json = False) -> None:
    """Show the versions of a target, and what it is made of."""
    with connect(ctx) as client:
        found = client.targets.show(reference)
    if as_json:
        tables.print_json(found)
    else:
        tables.print_target(found)


@app.command()
def rm(ctx: typer.Context, reference: Reference) -> None:
    """Retire a version (NAME@3), or a whole target; what it was made of stays."""
    with connect(ctx) as client:
        client.targets.delete(reference)
    tables.done(f"retired {reference}")
