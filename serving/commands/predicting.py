"""`chorus predict`: inputs from the command line, a file or a pipe, answered by a composition of adapters."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serving.client import image_input
from serving.commands import tables
from serving.commands.options import Json, composition_of, connect, from_json

app = typer.Typer()
TaskChoice = Literal[  # as the service names them
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "fill-mask",
    "dependency-parsing",
    "sentence-embedding",
    "feature-extraction",
    "image-classification",
]


@app.command()
def predict(
    ctx: typer.Context,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...")] = None,
    *,
    adapters: Annotated[
        str | None,
        typer.Option("--adapters", "-a", help="`lang+sentiment@prod~embedding`, `base`, or a composition in JSON."),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="One input per line; `-` is stdin.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="An image, PNG, JPEG or WebP; several times.")] = None,
    json_lines: Annotated[bool, typer.Option("--json-lines", help="Inputs are JSON objects or strings.")] = False,
    context: Annotated[str | None, typer.Option(help="Texts are questions on this (`@FILE` reads one).")] = None,
    choice: Annotated[list[str] | None, typer.Option(help="What may follow each text; several times.")] = None,
    embedding: Annotated[str | None, typer.Option(help="Token embedding.")] = None,
    head: Annotated[str | None, typer.Option(help="The package whose head answers.")] = None,
    task: Annotated[TaskChoice | None, typer.Option(help="What to answer; default: what the head does.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the best.")] = None,
    function: Annotated[Literal["softmax", "sigmoid", "none"] | None, typer.Option(help="Scores from logits.")] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut what is too long.")] = False,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="Another parameter: NAME=VALUE, in JSON or as text.")
    ] = None,
    timeout_ms: Annotated[int | None, typer.Option(min=1, help="How long the answer may take.")] = None,
    as_json: Json = False,
) -> None:
    """Answer inputs with adapters."""
    lines = [*(texts or ()), *(read_lines(file) if file else ())]
    images = [] if image is None else image
    if not lines and not images:
        raise typer.BadParameter("give texts, --file, or --image", param_hint="TEXT")
    wanted: dict[str, Any] = {"top_k": top_k, "function_to_apply": function, "truncate": truncate or None}
    parameters = {name: value for name, value in wanted.items() if value is not None} | named(parameter or ())
    with connect(ctx) as client:
        answer = client.predict(
            [
                *(input_of(line, context=context, choices=choice, as_json=json_lines) for line in lines),
                *map(image_of, images),
            ],
            None if adapters is None else composition_of(adapters),
            embedding=embedding,
            head=head,
            task=task,
            parameters=parameters or None,
            timeout_ms=timeout_ms,
        )
    if as_json:
        tables.print_json(answer)
    else:
        tables.print_prediction([*lines, *(path.name for path in images)], answer)


def read_lines(file: Path) -> list[str]:
    """The lines of a file, or of stdin for `-`; empty lines are inputs too, but for the last."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n") if text else []


def input_of(line: str, *, context: str | None, choices: list[str] | None, as_json: bool) -> Any:
    """One input: a text, a question on the context, a text with choices, or what its JSON says."""
    if as_json:
        return from_json(line, "TEXT")
    if context is not None:
        path = context.removeprefix("@")
        return {"question": line, "context": Path(path).read_text(encoding="utf-8") if path != context else context}
    return {"text": line, "choices": choices} if choices else line


def image_of(path: Path) -> dict[str, str]:
    """The input of an image; raises `typer.BadParameter` where it can not be read."""
    try:
        return image_input(path)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--image") from error


def named(parameters: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """`NAME=VALUE`, in JSON where that reads, else as text."""
    found: dict[str, Any] = {}
    for item in parameters:
        name, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"{item!r} is not NAME=VALUE", param_hint="--parameter")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
