"""What the rows of a request share, as text: pinned versions, composition, reduction, and the tokens of a prompt.

Of the values that may travel there is a table; nothing else can be read from such a text.
"""

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from adapters.composition import Average, Composition, Fuse, Leaf, MultiTask, Parallel, Split, Stack, Sum
from adapters.refs import AdapterRef
from serving.request import Reduction, Ticket

REMEMBERED = 4096  # errands, in either direction: most requests name what others have named
_KINDS: tuple[type[Any], ...] = (
    AdapterRef,
    Composition,
    Reduction,
    Leaf,
    Stack,
    Fuse,
    Average,
    Parallel,
    Split,
    Sum,
    MultiTask,
)
_BY_NUMBER = dict(enumerate(_KINDS))
_NUMBERS = {kind: number for number, kind in _BY_NUMBER.items()}
_TUPLE, _SET = "()", "{}"


@dataclass(frozen=True, slots=True)
class Errand:
    """The fields of a `Ticket` that are those of its request."""

    tenant: str
    composition: Composition
    head: AdapterRef | None
    embedding: AdapterRef | None
    reduction: Reduction
    inserted: int
    visits: float

    @classmethod
    def of(cls, ticket: Ticket) -> "Errand":
        """The ticket's."""
        t = ticket
        return cls(t.tenant, t.composition, t.head, t.embedding, t.reduction, t.inserted, t.visits)


@lru_cache(REMEMBERED)
def written(errand: Errand) -> str:
    """The errand as one line of JSON."""
    return json.dumps([_plain(getattr(errand, field.name)) for field in fields(errand)], separators=(",", ":"))


@lru_cache(REMEMBERED)
def read(text: str) -> Errand:
    """What was written; raises `ValueError`, `TypeError` or `KeyError` for anything else."""
    return Errand(*map(_value, json.loads(text)))


def _plain(value: Any) -> Any:
    if type(value) in _NUMBERS:
        return [_NUMBERS[type(value)], *(_plain(getattr(value, field.name)) for field in fields(value))]
    if isinstance(value, tuple):
        return [_TUPLE, *map(_plain, value)]
    if isinstance(value, frozenset):
        return [_SET, *sorted(value)]
    assert value is None or isinstance(value, str | int | float), f"a {type(value).__name__} can not travel"
    return value


def _value(plain: Any) -> Any:
    if not isinstance(plain, list):
        return plain
    kind, *parts = plain
    values = [_value(part) for part in parts]
    if kind in (_TUPLE, _SET):
        return tuple(values) if kind == _TUPLE else frozenset(values)
    return _BY_NUMBER[kind](*values)
