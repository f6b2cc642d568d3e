"""Arguments that several commands share, and the service that they talk to."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serving.client import Client
from serving.namespaces import Packages

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
InEmbeddings = Annotated[bool, typer.Option("--embedding", help="A token embedding, not an adapter.")]
Reference = Annotated[str, typer.Argument(metavar="NAME[@SELECTOR]", help="A name, and a version, alias or digest.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="DIR|FILE|hf:ORG/REPO[@REV]",
        help="AdapterHub or PEFT folder, saved setup, native package, or a repository of the hub.",
    ),
]
Convertible = Annotated[
    Path,
    typer.Argument(
        metavar="SRC",
        help="AdapterHub or PEFT folder, native package, or hf:ORG/REPO[@REV]; of a saved setup, one of its folders.",
    ),
]
Data = Annotated[Path | None, typer.Option(help="Work on this data folder, without HTTP.")]
DatabaseUrl = Annotated[
    str, typer.Option(envvar="CHORUS_DATABASE_URL", help="PostgreSQL URL; default: SQLite in the data folder.")
]
BlobUrl = Annotated[
    str,
    typer.Option(envvar="CHORUS_BLOB_URL", help="s3://bucket/prefix, gs://... or az://...; default: the data folder."),
]
Fitting = Annotated[Path | None, typer.Option("--backbone", help="Backbone folder; default: ask the service.")]
Labels = Annotated[str, typer.Option(metavar="A,B,...", help="Label names, for PEFT folders, which carry none.")]
ProblemType = Annotated[
    Literal["", "single_label", "multi_label", "regression", "token"],
    typer.Option(help="What the labels are, for PEFT folders, which do not say."),
]
HeadSeed = Annotated[
    int | None,
    typer.Option(help="Seed under which the model was loaded for training: draws what PEFT left out of the head."),
]
TaskId = Annotated[
    int | None, typer.Option(min=0, help="Which task to take of a PEFT folder that was trained on several, from 0 on.")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port that answers HTTP.")]

HUB = "hf:"  # what a source on the Hugging Face hub begins with

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True)
class Connection:
    """Which service, and with which key; the `obj` of every command's context."""

    url: str
    key: str | None

    def client(self) -> Client:
        """A client of the service; a URL without a scheme is HTTP."""
        return Client(self.url if "://" in self.url else f"http://{self.url}", self.key)


def connect(ctx: typer.Context) -> Client:
    """The client that a command uses."""
    connection = ctx.obj
    assert isinstance(connection, Connection), "the root callback sets it"
    return connection.client()


def space_of(client: Client, *, embedding: bool) -> Packages:
    """The namespace that a command is about."""
    return client.token_embeddings if embedding else client.adapters


def composition_of(text: str) -> Any:
    """A composition of the command line: the short form as it is; what starts like a JSON list or object is one."""
    return from_json(text, "--adapters") if text.lstrip().startswith(("{", "[")) else text


def from_json(text: str, hint: str) -> Any:
    """A JSON value; raises `typer.BadParameter`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint=hint) from error


def seconds(text: str, hint: str) -> float:
    """`90s`, `30m`, `12h`, `30d` or plain seconds; raises `typer.BadParameter`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration: write 90s, 30m, 12h or 30d", param_hint=hint)
    return float(match[1]) * _SECONDS[match[2] or "s"]


def split(text: str) -> tuple[str, ...] | None:
    """The items of `A,B`; None without any."""
    return tuple(item.strip() for item in text.split(",")) if text else None
