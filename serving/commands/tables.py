"""How answers look in a terminal: terse tables on stdout, everything else on stderr.

A pipe gets the whole table, never one cut to 80 columns; `--json` is the form for programs.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.api import answers, target_answers
from serving.client import PredictAnswer
from serving.commands.outcomes import outcome
from serving.errors import ServiceError

_PIPE_WIDTH = 2000
_UNITS = ("B", "KiB", "MiB", "GiB")


def stdout() -> Console:
    """The console for results."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def stderr() -> Console:
    """The console for progress, notes and errors."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH, highlight=False)


def print_json(value: Any) -> None:
    """An answer as the server gave it."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def note(text: str) -> None:
    """One line of progress."""
    stderr().print(escape(text), style="dim", soft_wrap=True)


def done(text: str) -> None:
    """The one line that says what happened."""
    stdout().print(escape(text), soft_wrap=True)


def complain(error: Exception) -> None:
    """An error: what is wrong, where, and the request to ask about."""
    console = stderr()
    console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
    for fault in error.faults if isinstance(error, ServiceError) else ():
        if fault.detail != str(error) or fault.pointer:
            text = fault.pointer if fault.detail == str(error) else f"{fault.pointer}  {fault.detail}"
            console.print(f"  {escape(text.strip())}", soft_wrap=True)
    for line in getattr(error, "__notes__", ()):
        console.print(f"  {escape(line)}", style="dim", soft_wrap=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str] = frozenset()) -> None:
    """Aligned columns without lines; the columns in `right` hold numbers."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(cell) for cell in row))
    stdout().print(grid)


def published(answer: answers.PublishedAnswer) -> str:
    """What became of a publish."""
    outcome = "published" if answer["created"] else "was published already:"
    moved = f", {answer['promoted']} moved to it" if answer["promoted"] else ""
    return f"{outcome} {answer['name']}@{answer['version']}  {size(answer['bytes'])}{moved}"


def print_names(found: Sequence[answers.SummaryAnswer], active: str | None = None) -> None:
    """`chorus ls`: one line per name; the active token embedding carries a star."""
    table(
        ("NAME", "VERSION", "METHOD", "TASK", "LABELS", "ALIASES", "SIZE", "PUBLISHED"),
        [_name_row(item, active) for item in found],
        right=frozenset({"VERSION", "SIZE"}),
    )


def print_name(found: answers.NameAnswer) -> None:
    """`chorus show`: the versions of one name, the selected one marked."""
    selected = found["selected"]
    chosen = None if selected is None else selected["version"]
    named: dict[int, list[str]] = {}
    for alias, version in found["aliases"].items():
        named.setdefault(version, []).append(alias)
    done(f"{found['name']}  revision {found['revision']}")
    table(
        ("", "VERSION", "ALIASES", "METHOD", "TASK", "LABELS", "SIZE", "PUBLISHED", "DIGEST"),
        [
            (
                ">" if item["version"] == chosen else "",
                str(item["version"]) + (" pinned" if item["version"] in found["pinned"] else ""),
                ", ".join(named.get(item["version"], ())),
                item["method"],
                item["task"] or "-",
                short_labels(item["labels"]),
                size(item["bytes"]),
                item["created"],
                item["digest"],
            )
            for item in reversed(found["versions"])
        ],
        right=frozenset({"SIZE"}),
    )


def print_targets(found: Sequence[target_answers.TargetSummaryAnswer]) -> None:
    """`chorus target ls`: one line per target, with what its bare name stands for."""
    table(
        ("NAME", "VERSION", "STANDS FOR", "ALIASES", "PUBLISHED"),
        [
            (
                item["name"],
                str(item["current"]["version"]) if item["current"] else "-",
                composed(item["composition"]),
                ", ".join(f"{alias}={version}" for alias, version in item["aliases"].items()),
                item["current"]["created"] if item["current"] else "-",
            )
            for item in found
        ],
        right=frozenset({"VERSION"}),
    )


def print_target(found: target_answers.TargetNameAnswer) -> None:
    """`chorus target show`: the versions of one target, and what the selected one stands for."""
    print_name(found)
    done(f"stands for  {composed(found['composition'])}")
    table(
        ("ROLE", "MEMBER", "DIGEST"),
        [
            (member["role"], f"{member['name']}@{member['version']}", member["digest"])
            for member in found["composition"]["members"]
        ],
    )


def composed(composition: target_answers.CompositionAnswer) -> str:
    """A composition in a line: the short form where there is one, else its JSON."""
    adapters, children = composition["adapters"], composition["adapters"].get("stack")
    plain = list(adapters) == ["stack"] and all(isinstance(child, str) for child in children or ())
    text = "+".join(children or ()) or "base" if plain else json.dumps(adapters, ensure_ascii=False)
    vocabulary = "" if composition["embedding"] is None else f"~{composition['embedding']}"
    return text + vocabulary + ("" if composition["head"] is None else f"  head {composition['head']}")


def print_history(found: Sequence[answers.EventAnswer]) -> None:
    """`chorus history`: one line per change, newest first."""
    table(
        ("AT", "ACTOR", "ACTION", "SUBJECT", "DETAIL", "REQUEST"),
        [
            (item["at"], item["actor"], item["action"], item["subject"], item["detail"], item["request_id"])
            for item in found
        ],
    )


def print_keys(found: Sequence[answers.KeyAnswer]) -> None:
    """`chorus key ls`."""
    table(
        ("KEY", "TENANT", "SCOPES", "LABEL", "CREATED", "STATE"),
        [
            (
                key["key_id"],
                key["tenant"],
                ",".join(key["scopes"]),
                key["label"],
                key["created"],
                "revoked" if key["revoked"] else "active",
            )
            for key in found
        ],
    )


def print_prediction(inputs: Sequence[str], answer: PredictAnswer) -> None:
    """`chorus predict`: one line per input, and on stderr which versions answered and how long it took."""
    rows = [(text, outcome(output)) for text, output in zip(inputs, answer["outputs"], strict=True)]
    table(("INPUT", "ANSWER"), rows)
    members = [f"{item['name']}@{item['version']}" for item in answer["target"].get("adapters", ())]
    total = answer["timing_ms"].get("total")
    note(f"{'+'.join(members) or 'base'}  {answer['task']}" + ("" if total is None else f"  {total:.1f} ms"))


def pairs(items: Iterable[str], form: str) -> dict[str, str]:
    """What `NAME=VALUE` arguments say; raises `typer.BadParameter`."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"{item!r} is not {form}", param_hint=form)
        found[name] = value
    return found


def size(nbytes: int) -> str:
    """Bytes for people: `312 B`, `1.4 MiB`."""
    value, unit = float(nbytes), _UNITS[0]
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{nbytes} B" if unit == "B" else f"{value:.1f} {unit}"


def short_labels(labels: Sequence[str]) -> str:
    """The first labels, and how many more there are."""
    return ", ".join(labels[:4]) + (f" and {len(labels) - 4} more" if len(labels) > 4 else "")


def _name_row(item: answers.SummaryAnswer, active: str | None) -> tuple[str, ...]:
    current = item["current"]
    name = item["name"] + (" *" if item["name"] == active else "")
    if current is None:
        return (name, "-", "the backbone's own", "-", "", "", "-", "-")
    aliases = ", ".join(f"{alias}={version}" for alias, version in item["aliases"].items())
    return (
        name,
        str(current["version"]),
        current["method"],
        current["task"] or "-",
        short_labels(current["labels"]),
        aliases,
        size(current["bytes"]),
        current["created"],
    )
