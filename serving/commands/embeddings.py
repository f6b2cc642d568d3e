"""`chorus embedding add active ls rm`: AdapterHub's verbs on the tenant's token embeddings."""

from pathlib import Path
from typing import Annotated

import typer

from serving.commands import tables
from serving.commands.options import Json, Name, Reference, connect

app = typer.Typer(no_args_is_help=True, help="Add, choose and delete token embeddings.")
_FILE = "tokenizer.json"


@app.command()
def add(
    ctx: typer.Context,
    name: Name,
    *,
    tokenizer: Annotated[Path, typer.Option(metavar="FILE|DIR", help="A tokenizer.json, or a folder with one.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Copy the rows of tokens that this embedding knows as well; `default` is the backbone's."),
    ] = None,
    reference_tokenizer: Annotated[
        Path | None, typer.Option(metavar="FILE|DIR", help="What names the reference's rows; default: its own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that are drawn.")] = 0,
    activate: Annotated[bool, typer.Option(help="Make it the active one.")] = True,
    as_json: Json = False,
) -> None:
    """Make the embedding of a new vocabulary, and make it active."""
    own = read_tokenizer(tokenizer)
    theirs = None if reference_tokenizer is None else read_tokenizer(reference_tokenizer)
    with connect(ctx) as client:
        answer = client.token_embeddings.add(
            name, own, reference_embedding=reference, reference_tokenizer=theirs, seed=seed, activate=activate
        )
    if as_json:
        tables.print_json(answer)
    else:
        tables.note(tables.published(answer) + (", and is active" if activate else ""))


@app.command()
def active(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """Tell which token embedding is active, or make one active; `default` is the backbone's own."""
    with connect(ctx) as client:
        if name is not None:
            client.token_embeddings.set_active(name)
        chosen = client.token_embeddings.active() if name is None else name
    if as_json:
        tables.print_json({"name": chosen})
    else:
        tables.done(chosen if name is None else f"active token embedding: {name}")


@app.command()
def ls(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(help="Only names that start so.")] = "",
    as_json: Json = False,
) -> None:
    """List the token embeddings; the active one carries a star."""
    with connect(ctx) as client:
        found, chosen = client.token_embeddings.names(prefix), client.token_embeddings.active()
    if as_json:
        tables.print_json({"items": found, "active": chosen})
    else:
        tables.print_names(found, chosen)


@app.command()
def rm(ctx: typer.Context, reference: Reference) -> None:
    """Delete a token embedding or a version of it; without the active one, `default` is active."""
    with connect(ctx) as client:
        client.token_embeddings.delete(reference)
    tables.done(f"retired {reference}")


def read_tokenizer(path: Path) -> str:
    """The text of a `tokenizer.json`, or of the one in a folder that a tokenizer was saved to."""
    places = [path / _FILE, path / "tokenizer" / _FILE] if path.is_dir() else [path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{path} holds no {_FILE}: save a fast tokenizer there" if path.is_dir() else f"there is no {path}"
        )
    try:
        return found.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{found} is not UTF-8 text", param_hint="--tokenizer") from error
