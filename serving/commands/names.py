"""`chorus ls show rm alias promote rollback activate pull`: what an operator does to published names."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from serving.api.answers import EventAnswer
from serving.commands import tables
from serving.commands.options import InEmbeddings, Json, Name, Reference, connect, space_of
from serving.errors import Conflict
from serving.registry.records import DEFAULT_ALIAS

app = typer.Typer()
_WAS = re.compile(r"was version (\d+)")


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
def alias(
    ctx: typer.Context,
    name: Name,
    alias_name: Annotated[str, typer.Argument(metavar="ALIAS")],
    version: Annotated[int | None, typer.Argument(min=1)] = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    embedding: InEmbeddings = False,
) -> None:
    """Point an alias at a version, or remove it."""
    if delete == (version is not None):
        raise typer.BadParameter("give a VERSION, or --delete", param_hint="VERSION")
    with connect(ctx) as client:
        space = space_of(client, embedding=embedding)
        before = space.show(name)
        if version is None:
            space.delete_alias(name, alias_name, if_match=before["revision"])
            tables.done(f"{name}: {alias_name} removed")
        else:
            space.set_alias(name, alias_name, version, if_match=before["revision"])
            tables.done(_moved(name, alias_name, before["aliases"].get(alias_name), version))


@app.command()
def promote(ctx: typer.Context, reference: Reference, embedding: InEmbeddings = False) -> None:
    """Point `prod` at a version, or at the newest."""
    with connect(ctx) as client:
        space = space_of(client, embedding=embedding)
        found = space.show(reference)
        newest = found["versions"][-1] if found["versions"] else None
        wanted = found["selected"] if "@" in reference else newest
        if wanted is None:
            raise Conflict(f"{found['name']!r} has no versions to promote")
        space.set_alias(found["name"], DEFAULT_ALIAS, wanted["version"], if_match=found["revision"])
    tables.done(_moved(found["name"], DEFAULT_ALIAS, found["aliases"].get(DEFAULT_ALIAS), wanted["version"]))


@app.command()
def rollback(ctx: typer.Context, name: Name, embedding: InEmbeddings = False) -> None:
    """Point `prod` at what it pointed at before; versions retired since are passed over."""
    with connect(ctx) as client:
        space = space_of(client, embedding=embedding)
        found = space.show(name)
        present = found["aliases"].get(DEFAULT_ALIAS)
        held = {version["version"] for version in found["versions"]}
        before = next((v for v in pointed_at(space.history(name), name) if v != present and v in held), None)
        if before is None:
            raise Conflict(f"{name!r} has no earlier {DEFAULT_ALIAS} to go back to", code="no_earlier_version")
        space.set_alias(name, DEFAULT_ALIAS, before, if_match=found["revision"])
    tables.done(_moved(name, DEFAULT_ALIAS, present, before))


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
    form: Annotated[Literal["native", "adapterhub", "peft"], typer.Option("--format")] = "native",
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


def pointed_at(history: Sequence[EventAnswer], name: str) -> Iterator[int]:
    """The versions that `prod` pointed at before each of its moves, latest move first."""
    for event in history:
        if event["subject"] == f"{name}@{DEFAULT_ALIAS}" and (match := _WAS.search(event["detail"])):
            yield int(match[1])


def _moved(name: str, alias: str, before: int | None, after: int) -> str:
    if before == after:
        return f"{name}: {alias} is at version {after} already"
    return (
        f"{name}: {alias} moved from version {before} to {after}" if before else f"{name}: {alias} is version {after}"
    )
