"""What a dry run tells of a package: the check's report, what of the backbone it touches, and one answer of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.registry.records import CheckReport

SAMPLE = "The quick brown fox jumps over the lazy dog."  # the reference input of who gives none


@dataclass(frozen=True)
class Trial:
    """One forward pass over a reference input, with the package and without it.

    `norm` is the mean length of the last hidden states; `change` is how far the package moves them from the bare
    backbone's, relative to their length: None for a package that acts on none. `answer` is the head's first answer.
    """

    input: str
    tokens: int
    norm: float
    change: float | None
    answer: Mapping[str, Any] | None


@dataclass(frozen=True)
class Inspection:
    """A good package, looked into. Modules are dotted paths of the backbone, matched ones by the kind of their site."""

    report: CheckReport
    parameters: int
    matched: Mapping[str, tuple[str, ...]]
    untouched: tuple[str, ...]
    trial: Trial | None
    untried: str  # why there was no trial
