"""`chorus tag`: what operators say of a version; tags that somebody else sets meanwhile stay."""

from collections.abc import Collection, Mapping
from typing import Annotated

import typer

from adapters.refs import parse_reference
from serving.commands import tables
from serving.commands.options import InEmbeddings, Json, Reference, connect, space_of
from serving.errors import Conflict, PreconditionFailed
from serving.namespaces import Packages

ATTEMPTS = 5  # whatever else changes the name in between makes it read again

app = typer.Typer()


@app.command()
def tag(
    ctx: typer.Context,
    reference: Reference,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG=VALUE...", help="Set these.")] = None,
    *,
    remove: Annotated[list[str] | None, typer.Option("--remove", metavar="TAG", help="Take one away.")] = None,
    embedding: InEmbeddings = False,
    as_json: Json = False,
) -> None:
    """Tag a version; its other tags stay. Without tags, show those that it has."""
    given = tables.pairs(tags or (), "TAG=VALUE")
    with connect(ctx) as client:
        held = retag(space_of(client, embedding=embedding), reference, given, remove or ())
    if as_json:
        tables.print_json(held)
    else:
        tables.table(("TAG", "VALUE"), sorted(held.items()))


def retag(space: Packages, reference: str, given: Mapping[str, str], gone: Collection[str] = ()) -> Mapping[str, str]:
    """Set some tags of a version and take others away; those that it has then.

    Raises `Conflict` for a name without versions, and `PreconditionFailed` where the name changes all the time.
    """
    for attempt in range(1, ATTEMPTS + 1):
        found = space.show(reference)
        selected = found["selected"]
        if selected is None:
            raise Conflict(f"{reference!r} has no versions to tag")
        held = selected["tags"]
        wanted = {**{tag: value for tag, value in held.items() if tag not in gone}, **given}
        if not given and not gone:
            return held
        name = parse_reference(reference).name
        try:
            space.set_tags(name, selected["version"], wanted, if_match=found["revision"])
        except PreconditionFailed:
            if attempt == ATTEMPTS:
                raise
        else:
            return wanted
    raise AssertionError("the last attempt returns or raises")
