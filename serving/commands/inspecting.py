"""`chorus validate`, and `push --dry-run`: what a package is and would do, with nothing stored."""

import json
from typing import Annotated, Any

import typer

from serving.api.inspection_answers import InspectionAnswer, RoomAnswer
from serving.commands import tables
from serving.commands.options import (
    Fitting,
    HeadSeed,
    Json,
    Labels,
    ProblemType,
    Source,
    TaskId,
    connect,
    split,
)

app = typer.Typer()
NO_NAME = "dry-run"


@app.command()
def validate(
    ctx: typer.Context,
    source: Source,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it would be published as.")] = NO_NAME,
    *,
    text: Annotated[str | None, typer.Option("--input", metavar="TEXT", help="Try it on this sentence.")] = None,
    labels: Labels = "",
    problem_type: ProblemType = "",
    head_seed: HeadSeed = None,
    task_id: TaskId = None,
    backbone: Fitting = None,
    as_json: Json = False,
) -> None:
    """Check a package in full and try it on a sentence, without publishing it."""
    from serving.commands.packages import Reading  # noqa: PLC0415 - torch, only where it is asked for
    from serving.commands.pushing import dry_run  # noqa: PLC0415 - as above

    reading = Reading(source, backbone, split(labels), problem_type or None, head_seed, task_id)
    with connect(ctx) as client:
        found = dry_run(client, reading, name, text=text)
    if as_json:
        tables.print_json(found[0] if len(found) == 1 else {"items": found})
    else:
        show(found)


def show(found: list[InspectionAnswer]) -> None:
    """What was found, a line for each thing; warnings and what would be refused go to stderr."""
    for item in found:
        tables.table(("", item["name"]), facts(item))
        for warning in item["warnings"]:
            tables.note(f"warning: {warning}")
        if item["outlook"]["refused"]:
            tables.note(f"a publish would be refused: {item['outlook']['refused']}")


def facts(found: InspectionAnswer) -> list[tuple[str, str]]:
    """(what, how it is) of one package."""
    modules, outlook, trial = found["modules"], found["outlook"], found["trial"]
    matched = ", ".join(f"{len(paths)} {kind}" for kind, paths in modules["matched"].items())
    rows = [
        ("kind", found["kind"]),
        ("methods", ", ".join(found["methods"]) or "-"),
        ("task", f"{found['task']} ({tables.short_labels(found['labels'])})" if found["task"] else "-"),
        ("parameters", f"{found['parameters']:,}"),
        ("size", f"{tables.size(found['bytes'])}, {tables.size(found['device_bytes'])} on the device"),
        ("modules", f"{modules['count']} matched ({matched or 'none'}), {len(modules['untouched'])} untouched"),
        ("publish", _outlook(found)),
        ("quota", f"names {_room(outlook['names'])}, bytes {_room(outlook['bytes'])}"),
        ("digest", found["digest"]),
    ]
    if trial is None:
        return [*rows, ("tried", f"no: {found['untried']}")]
    change = "" if trial["change"] is None else f", moves the states by {trial['change']:.2%}"
    answer = f"states of length {trial['norm']:.2f}" if trial["answer"] is None else _answer(trial["answer"])
    return [*rows, ("tried", f"{trial['tokens']} tokens{change}"), ("input", trial["input"]), ("answer", answer)]


def _answer(answer: dict[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in answer.items())


def _outlook(found: InspectionAnswer) -> str:
    outlook = found["outlook"]
    version = f"{found['name']}@{outlook['version']}"
    return f"would make {version}" if outlook["creates"] else f"is {version} already"


def _room(room: RoomAnswer) -> str:
    allowed = "any" if room["allowed"] is None else str(room["allowed"])
    return f"{room['held']} + {room['asked']} of {allowed}"
