"""`chorus predict`: texts from the command line, a file or a pipe, answered by a composition of adapters."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from serving.commands import tables
from serving.commands.options import Json, connect

app = typer.Typer()


@app.command()
def predict(
    ctx: typer.Context,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...")] = None,
    *,
    adapters: Annotated[
        str | None, typer.Option("--adapters", "-a", help="`lang+sentiment@prod~embedding`, or `base`.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="One input per line; `-` is stdin.")] = None,
    embedding: Annotated[str | None, typer.Option(help="Token embedding.")] = None,
    head: Annotated[str | None, typer.Option(help="The package whose head answers.")] = None,
    task: Annotated[
        Literal["text-classification", "token-classification", "feature-extraction"] | None, typer.Option()
    ] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Only the best labels.")] = None,
    function: Annotated[Literal["softmax", "sigmoid", "none"] | None, typer.Option(help="Scores from logits.")] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut what is too long.")] = False,
    timeout_ms: Annotated[int | None, typer.Option(min=1)] = None,
    as_json: Json = False,
) -> None:
    """Answer texts with adapters."""
    inputs = [*(texts or ()), *(read_lines(file) if file else ())]
    if not inputs:
        raise typer.BadParameter("give texts, or --file", param_hint="TEXT")
    wanted: dict[str, Any] = {"top_k": top_k, "function_to_apply": function, "truncate": truncate or None}
    parameters = {name: value for name, value in wanted.items() if value is not None}
    with connect(ctx) as client:
        answer = client.predict(
            inputs,
            adapters,
            embedding=embedding,
            head=head,
            task=task,
            parameters=parameters or None,
            timeout_ms=timeout_ms,
        )
    if as_json:
        tables.print_json(answer)
    else:
        tables.print_prediction(inputs, answer)


def read_lines(file: Path) -> list[str]:
    """The lines of a file, or of stdin for `-`; empty lines are inputs too, but for the last."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n") if text else []
