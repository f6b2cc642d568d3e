"""A sweep taken apart: one scenario per value, which differs from the others in one knob alone."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from loadtests.scenarios.values import Knob, Scenario

Value = float | int | str
ADAPTER = TypeAdapter(Scenario)
PLACES: Mapping[Knob, tuple[str, str]] = {
    "rate": ("arrivals", "rate"),
    "load": ("arrivals", "load"),
    "closed": ("arrivals", "closed"),
    "cv": ("arrivals", "cv"),
    "adapters": ("adapters", "count"),
    "device": ("room", "device"),
    "s": ("popularity", "s"),
    "law": ("popularity", "law"),
    "rows": ("requests", "rows"),
}
WORDS: Mapping[Knob, str] = {
    "rate": "offered requests per second",
    "load": "offered load, share of the peak",
    "closed": "requests under way",
    "cv": "coefficient of variation of the gaps",
    "adapters": "adapters offered",
    "device": "adapters that fit on the device",
    "s": "parameter of the popularity law",
    "law": "popularity law",
    "rows": "texts per request",
}
_ONE_OF = ("rate", "load", "closed")  # of the arrivals: one is said, the others are not


@dataclass(frozen=True)
class Step:
    """One value of the knob that is swept, and the scenario with it; `value` is None where nothing is swept."""

    value: Value | None
    scenario: Scenario

    @property
    def name(self) -> str:
        """For figures and axes; empty where nothing is swept."""
        return named(self.value)


def named(value: Value | None) -> str:
    """A value of a knob in as few letters as tell it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:g}"


def steps_of(scenario: Scenario) -> tuple[Step, ...]:
    """The steps in the order given; raises pydantic's `ValidationError` where the knob can not have a value."""
    sweep = scenario.sweep
    if sweep is None:
        return (Step(None, scenario),)
    return tuple(Step(value, turned(scenario, sweep.over, value)) for value in sweep.values)


def turned(scenario: Scenario, knob: Knob, value: Value) -> Scenario:
    """The scenario with another value of one knob, and without its sweep."""
    told = asdict(scenario) | {"sweep": None}
    table, member = PLACES[knob]
    if member in _ONE_OF:
        told[table].update(dict.fromkeys(_ONE_OF))
    told[table][member] = value
    return ADAPTER.validate_json(json.dumps(told))
