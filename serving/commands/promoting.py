"""`chorus alias promote rollback`: which version a name stands for, moved only from where it was seen to be."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from serving.api.answers import EventAnswer, MovedAnswer
from serving.commands import tables
from serving.commands.options import InEmbeddings, Name, Reference, connect, from_json, space_of
from serving.commands.outcomes import outcome
from serving.errors import Conflict
from serving.registry.records import DEFAULT_ALIAS

app = typer.Typer()
GateText = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="Move only if every engine loads it and this input (a text, or JSON) is answered."
    ),
]
_WAS = re.compile(r"was version (\d+)")


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
def promote(
    ctx: typer.Context, reference: Reference, *, gate: GateText = None, embedding: InEmbeddings = False
) -> None:
    """Point `prod` at a version, or at the newest; with a gate only if it proves to work."""
    with connect(ctx) as client:
        space = space_of(client, embedding=embedding)
        found = space.show(reference)
        newest = found["versions"][-1] if found["versions"] else None
        wanted = found["selected"] if "@" in reference else newest
        if wanted is None:
            raise Conflict(f"{found['name']!r} has no versions to promote")
        moved = space.set_alias(
            found["name"], DEFAULT_ALIAS, wanted["version"], if_match=found["revision"], gate=gate_of(gate)
        )
    _tell_gate(moved)
    tables.done(_moved(found["name"], DEFAULT_ALIAS, moved["was"], wanted["version"]))


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


def pointed_at(history: Sequence[EventAnswer], name: str) -> Iterator[int]:
    """The versions that `prod` pointed at before each of its moves, latest move first."""
    for event in history:
        if event["subject"] != f"{name}@{DEFAULT_ALIAS}":
            continue
        before = event["before"]
        if isinstance(before, Mapping):
            yield before["version"]
        elif match := _WAS.search(event["detail"]):  # a line of the first release, which said it in words
            yield int(match[1])


def gate_of(text: str | None) -> bool | Mapping[str, Any]:
    """The gate of a command line: an input, in JSON where it begins like an object."""
    if text is None:
        return False
    return {"input": from_json(text, "--gate") if text.lstrip().startswith("{") else text}


def _tell_gate(moved: MovedAnswer) -> None:
    gate = moved["gate"]
    if gate is not None:
        where = ", ".join(f"{replica} ({tier})" for replica, tier in gate["replicas"].items())
        answer = outcome(gate["outputs"][0]) if gate["outputs"] else json.dumps(None)
        tables.note(f"gate passed on {where}: {answer}")


def _moved(name: str, alias: str, before: int | None, after: int) -> str:
    if before == after:
        return f"{name}: {alias} is at version {after} already"
    return (
        f"{name}: {alias} moved from version {before} to {after}" if before else f"{name}: {alias} is version {after}"
    )
