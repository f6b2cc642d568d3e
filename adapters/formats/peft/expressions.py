"""Regular expressions of strangers, which mean what they mean to Python's `re` and are matched within bounds.

`re` itself can not be interrupted, and holds the interpreter meanwhile: a nested repeat may take it years.
"""

import re
from functools import lru_cache

import regex

from adapters.errors import Misfit

SECONDS = 1.0  # of processor time, for one path
LONGEST = 10_000  # characters of an expression
REPEATS = 10_000  # all counted repeats multiplied, since each is laid out as often as it counts
_COUNTED = re.compile(r"\{(\d*),?(\d*)\}")


def full(expression: str, path: str) -> "regex.Match[str] | None":
    """The match of a whole path; raises `Misfit` for what is no expression, or takes too much time or memory."""
    return _within(expression, path, whole=True)


def beginning(expression: str, path: str) -> "regex.Match[str] | None":
    """The same, of what a path begins with."""
    return _within(expression, path, whole=False)


def _within(expression: str, path: str, *, whole: bool) -> "regex.Match[str] | None":
    compiled = _compiled(expression)
    try:
        return (compiled.fullmatch if whole else compiled.match)(path, timeout=SECONDS)
    except (TimeoutError, MemoryError) as error:
        raise _refused(expression, f"takes longer than {SECONDS:g} s for {path}: name the modules in a list") from error


@lru_cache(maxsize=8192)
def _compiled(expression: str) -> "regex.Pattern[str]":
    if len(expression) > LONGEST:
        raise _refused(expression, f"has {len(expression)} characters; at most {LONGEST}: name the modules in a list")
    repeats = 1
    for least, most in _COUNTED.findall(expression):
        repeats = min(repeats * max(1, *(int(number[:9]) for number in (least, most) if number), 1), REPEATS + 1)
    if repeats > REPEATS:
        raise _refused(expression, f"repeats more than {REPEATS} times: name the modules in a list")
    try:
        re.compile(expression)  # what `re` does not know is none, though `regex` might
        return regex.compile(expression, regex.VERSION0)
    except (re.error, regex.error, OverflowError, RecursionError, MemoryError) as error:
        raise _refused(expression, f"is no regular expression: {error}") from error


def _refused(expression: str, why: str) -> Misfit:
    shown = expression if len(expression) <= 80 else f"{expression[:77]}..."
    return Misfit([f"the pattern {shown!r} of adapter_config.json {why}"])
