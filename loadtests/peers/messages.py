"""What passes between the run and a library's process: one JSON object a line, a question and its answer in turn.

    {"do": "open", "work": {...}}                   -> {"versions": {...}, "runs": [[way, method], ...]}
    {"do": "answer", "run": [way, method], "to": F} -> {"note": "..."}     F: .npy, float32 [tokens, hidden]
    {"do": "time", "run": [way, method], "passes": N, "warm": true} -> {"seconds": [...]}

A process that fails answers {"error": "..."} and ends. It ends, too, where its input does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

RunName: TypeAlias = tuple[str, str | None]  # a way, and a method or None


@dataclass(frozen=True)
class Work:
    """What a library's process is to load: `adapters` holds METHOD/FORMAT/NUMBER, `converted` keeps what it converts."""

    backbone: Path
    adapters: Path
    converted: Path
    rows: tuple[tuple[int, ...], ...]  # token ids
    methods: tuple[str, ...]
    precision: str
    threads: int

    def json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), **{name: str(getattr(self, name)) for name in ("backbone", "adapters", "converted")}}


def work_of(value: Mapping[str, Any]) -> Work:
    """The work that `Work.json` told of."""
    return Work(
        backbone=Path(value["backbone"]),
        adapters=Path(value["adapters"]),
        converted=Path(value["converted"]),
        rows=tuple(tuple(row) for row in value["rows"]),
        methods=tuple(value["methods"]),
        precision=value["precision"],
        threads=value["threads"],
    )


def line(message: Mapping[str, Any]) -> str:
    """One line."""
    return json.dumps(message, allow_nan=False) + "\n"
