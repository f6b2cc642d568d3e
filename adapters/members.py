"""The members of parsed JSON, checked one by one; every fault is an `InvalidPackage` that names the member."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from adapters.errors import InvalidPackage

MAX_TEXT = 1000  # characters
MAX_COUNT = 10_000_000


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


def one_of(value: object, allowed: tuple[str, ...], where: str) -> str:
    """One of a few words."""
    if value not in allowed or not isinstance(value, str):
        raise InvalidPackage(f"{where} {value!r} is none of {', '.join(allowed)}")
    return value
