"""From a TOML file to a scenario: everything that is wrong is told at once, with the file and the member."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loadtests.scenarios.steps import ADAPTER, steps_of
from loadtests.scenarios.values import Scenario

FOLDER = Path(__file__).parent


class BadScenario(Exception):
    """A scenario that can not be run; the message names the file and every member that is wrong, and what it may be."""


def names() -> tuple[str, ...]:
    """The scenarios that come with the product."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def find(name: str) -> Path:
    """The file of a scenario: one of the product's by its name, any other by its path. Raises `BadScenario`."""
    path = FOLDER / f"{name}.toml"
    if name in names():
        return path
    if not Path(name).is_file():
        raise BadScenario(
            f"there is no scenario {name!r}: give the path of a TOML file, or one of {', '.join(names())}"
        )
    return Path(name)


def read(path: Path, changes: Sequence[str] = ()) -> Scenario:
    """Read a file; `changes` are `table.member=value` in TOML, as `--set` takes them. Raises `BadScenario`."""
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadScenario(f"{path.name}: {error}") from error
    for change in changes:
        told = changed(told, change)
    return scenario_of(told, path.name)


def scenario_of(told: Mapping[str, Any], source: str) -> Scenario:
    """The frozen value of what a file says; `source` is named in errors. Raises `BadScenario`."""
    try:
        scenario = ADAPTER.validate_json(json.dumps(told, default=str))
    except ValidationError as error:
        raise BadScenario("\n".join(_faults(error, source))) from error
    try:
        steps_of(scenario)
    except ValidationError as error:
        raise BadScenario("\n".join(_faults(error, f"{source}: sweep.values"))) from error
    return scenario


def changed(told: Mapping[str, Any], change: str) -> dict[str, Any]:
    """What a file says with one member set anew; `arrivals.rate` replaces `load` and `closed`. Raises `BadScenario`."""
    place, sign, text = change.partition("=")
    keys = place.strip().split(".")
    if not sign or not all(keys):
        raise BadScenario(f"--set {change}: write table.member=value, as in --set arrivals.rate=50")
    try:
        value = tomllib.loads(f"it = {text}")["it"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word: `--set popularity.law=uniform`
    made = json.loads(json.dumps(told, default=str))
    table = made
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise BadScenario(f"--set {change}: {key} is no table with members")
    if keys[0] == "arrivals" and keys[-1] in _ONE_OF:
        for other in _ONE_OF:
            table.pop(other, None)
    table[keys[-1]] = value
    return dict(made)


_ONE_OF = ("rate", "load", "closed")


def _faults(error: ValidationError, source: str) -> list[str]:
    found = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        what = fault["msg"].removeprefix("Value error, ")
        if fault["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            what = "is not known here"
        elif fault["type"] in {"missing", "missing_argument"}:
            what = "is needed"
        elif fault["type"] != "value_error":
            what = f"{what[:1].lower()}{what[1:]}, not {fault['input']!r}"
        found.append(f"{source}: {place}: {what}" if place else f"{source}: {what}")
    return found
