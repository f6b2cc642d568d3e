"""JSON and its members, checked one by one; every fault is an `InvalidPackage` that names the member."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from adapters.errors import InvalidPackage

MAX_TEXT = 1000  # characters
MAX_COUNT = 10_000_000
MAX_INTEGER = 1 << 63


def parse(text: str, where: str) -> Any:
    """The value of a JSON text whose numbers are finite, and integers of at most 64 bits."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidPackage(f"{where} is not JSON: {error}") from error
    _check_numbers(value, where)
    return value


def members(value: object, shape: type[Any], where: str, required: tuple[str, ...]) -> dict[str, Any]:
    """The members of an object that has those of a dataclass, and the required ones at least."""
    raw = as_mapping(value, where)
    known = {item.name for item in fields(shape)}
    unknown = sorted(str(key) for key in raw if key not in known)
    missing = [key for key in required if key not in raw]
    if unknown or missing:
        raise InvalidPackage(
            f"{where}: " + ", ".join([f"unknown {k!r}" for k in unknown] + [f"no {k!r}" for k in missing])
        )
    return dict(raw)


def as_mapping(value: object, where: str) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, Mapping):
        raise InvalidPackage(f"{where} must be an object")
    return value


def as_list(value: object, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise InvalidPackage(f"{where} must be a list")
    return value


def as_text(value: object, where: str) -> str:
    """A string of at most `MAX_TEXT` characters."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise InvalidPackage(f"{where} must be a string of at most {MAX_TEXT} characters")
    return value


def as_count(value: object, where: str) -> int:
    """An integer from 1 to `MAX_COUNT`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
        raise InvalidPackage(f"{where} must be a positive integer")
    return value


def as_optional_count(value: object, where: str) -> int | None:
    """The same, or nothing."""
    return None if value is None else as_count(value, where)


def as_route(value: object, where: str) -> tuple[int, ...] | None:
    """Numbers from 0 to `MAX_COUNT`, one at least, or nothing."""
    if value is None:
        return None
    numbers = as_list(value, where)
    if not numbers or any(type(number) is not int or not 0 <= number <= MAX_COUNT for number in numbers):
        raise InvalidPackage(f"{where} must be a list of layers")
    return tuple(numbers)


def one_of(value: object, allowed: tuple[str, ...], where: str) -> str:
    """One of a few words."""
    if value not in allowed or not isinstance(value, str):
        raise InvalidPackage(f"{where} {value!r} is none of {', '.join(allowed)}")
    return value


def _check_numbers(value: object, where: str) -> None:
    """A place is a chain of (place, key): it is spelled out for a fault alone, as keys may be long and places many."""
    places: list[tuple[object, Any]] = [(value, None)]
    while places:
        held, place = places.pop()
        if isinstance(held, dict | list):
            pairs = held.items() if isinstance(held, dict) else enumerate(held)
            places += [(item, (place, key)) for key, item in pairs if isinstance(item, dict | list | int | float)]
        elif isinstance(held, float) and not math.isfinite(held):
            raise InvalidPackage(f"{where}: {_spelled(place)} is too large a number")
        elif isinstance(held, int) and abs(held) > MAX_INTEGER:
            raise InvalidPackage(f"{where}: {_spelled(place)} is an integer of more than 64 bits")


def _spelled(place: Any) -> str:
    keys: list[str] = []
    while place is not None and len(keys) < 20:
        place, key = place
        keys.append(f"{key!s:.100}")
    return ".".join(reversed(keys)) or "the value"


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def as_flag(value: object, where: str) -> bool:
    """A boolean; raises `InvalidPackage`."""
    if not isinstance(value, bool):
        raise InvalidPackage(f"{where} must be true or false")
    return value


def as_fraction(value: object, where: str) -> float | None:
    """A number from 0 up to 1, or nothing; raises `InvalidPackage`."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise InvalidPackage(f"{where} must be a number from 0 up to 1")
    return float(value)
