"""`chorus ls show rm history activate pull`: what an operator asks of published names, and says of them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from serving.commands import diff, inspecting, promoting, publishing, tables, tagging
from serving.commands.options import InEmbeddings, Json, Name, Reference, connect, space_of

app = typer.Typer()
for group in (publishing.app, inspecting.app, promoting.app, diff.app, tagging.app):
    app.add_typer(group)


@app.command()
def ls(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only names that start so.")] = "",
    embedding: InEmbeddings = False,
    as_json: Json = False,
) -> None:
    """List what is published; the active token embedding carries a star."""
    with connect(ctx) as client:
        found = space_of(client, embedding=embedding).names(prefix)
        active = client.token_embeddings.active() if embedding else None
    if as_json:
        tables.print_json({"items": found, "active": active} if embedding else {"items": found})
    else:
        tables.print_names(found, active)


@app.command()
def show(ctx: typer.Context, reference: Reference, embedding: InEmbeddings = False, as_json: Json = False) -> None:
    """Show the versions and aliases of a name, and what a target is made of."""
    with connect(ctx) as client:
        found = space_of(client, embedding=embedding).show(reference)
        selected = found["selected"]
        target = client.targets.show(reference) if selected and selected["kind"] == "target" else None
    if as_json:
        tables.print_json(target or found)
    elif target is not None:
        tables.print_target(target)
    else:
        tables.print_name(found)


@app.command()
def rm(ctx: typer.Context, reference: Reference, embedding: InEmbeddings = False) -> None:
    """Retire a version (NAME@3), or a whole name."""
    with connect(ctx) as client:
        space_of(client, embedding=embedding).delete(reference)
    tables.done(f"retired {reference}")


@app.command()
def history(ctx: typer.Context, name: Name, embedding: InEmbeddings = False, as_json: Json = False) -> None:
    """Show what was done to a name, newest first: by whom, and how it was before."""
    with connect(ctx) as client:
        found = space_of(client, embedding=embedding).history(name)
    if as_json:
        tables.print_json({"items": found})
    else:
        tables.print_history(found)


@app.command()
def activate(ctx: typer.Context, name: Name) -> None:
    """Make a token embedding the one that rows use by default; `default` is the backbone's own."""
    with connect(ctx) as client:
        client.token_embeddings.set_active(name)
    tables.done(f"active token embedding: {name}")


@app.command()
def pull(
    ctx: typer.Context,
    reference: Reference,
    target: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A file for native, a folder for the others.")],
    *,
    form: Annotated[
        Literal["native", "adapterhub", "peft"], typer.Option("--format", help="The format to write.")
    ] = "native",
    embedding: InEmbeddings = False,
) -> None:
    """Download a package, as it was published or as a folder of AdapterHub or PEFT."""
    with connect(ctx) as client:
        if form != "native":
            from serving.commands import packages  # noqa: PLC0415 - torch, only where it is asked for

            packages.pull(client, reference, target, form, embedding=embedding)
            return
        nbytes = space_of(client, embedding=embedding).fetch(reference, target)
    tables.done(f"{target}  {tables.size(nbytes)}")
