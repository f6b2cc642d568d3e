"""What became of every folder that is watched: one small file in the data folder, written by the watcher, read by all.

The file is replaced as a whole, so that a reader never sees half of it, and survives the watcher: what was published
once is not published again because the service was started again.
"""

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from serving.logs import log

FILE = "watch.json"
State = Literal["published", "refused", "waiting"]


@dataclass(frozen=True)
class Outcome:
    """What became of one place below the watched folder, as it was when its `signature` was taken.

    `place` is its path there. `tenant` and `name` are what it is published as, "" where it can be nothing. `reasons` say
    why it was refused, or what it waits for; `at` is UTC seconds.
    """

    place: str
    tenant: str
    name: str
    signature: str
    state: State
    at: float
    version: int | None = None
    digest: str | None = None
    reasons: tuple[str, ...] = ()


class Journal:
    """The outcomes of one watched folder, by place."""

    def __init__(self, file: Path, folder: Path, outcomes: Mapping[str, Outcome], counts: Mapping[str, int]) -> None:
        self._file = file
        self._folder = str(folder)
        self._outcomes = dict(outcomes)
        self._counts = Counter(counts)

    @classmethod
    def open(cls, data: Path, folder: Path) -> Self:
        """The journal in a data folder; that of another watched folder, or a damaged one, is begun anew."""
        file = data / FILE
        held = _read(file)
        if held is None or held.folder != str(folder.resolve()):
            return cls(file, folder.resolve(), {}, {})
        return cls(file, folder.resolve(), {item.place: item for item in held.outcomes}, held.counts)

    def of(self, place: str) -> Outcome | None:
        """What became of a place."""
        return self._outcomes.get(place)

    @property
    def places(self) -> frozenset[str]:
        """Every place of which something is known."""
        return frozenset(self._outcomes)

    def keep(self, outcome: Outcome, *, word: str = "") -> None:
        """Remember what became of a place, durably, and count it under a word (its state)."""
        self._outcomes[outcome.place] = outcome
        self._counts[word or outcome.state] += 1
        self._write()

    def forget(self, place: str) -> None:
        """Remember nothing of a place that is gone."""
        if self._outcomes.pop(place, None) is not None:
            self._write()

    def check(self) -> tuple[str, ...]:
        """Where the file says something else than this journal; empty when sound."""
        held = _read(self._file)
        told = {} if held is None else {item.place: item for item in held.outcomes}
        return () if told == self._outcomes else (f"{self._file} is not what the watcher knows",)

    def _write(self) -> None:
        items = [asdict(self._outcomes[place]) for place in sorted(self._outcomes)]
        part = self._file.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            json.dump({"folder": self._folder, "counts": self._counts, "outcomes": items}, file, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._file)


@dataclass(frozen=True)
class Told:
    """What the file says; `counts` are outcomes by their word, for as long as the same folder is watched."""

    folder: str
    outcomes: tuple[Outcome, ...]
    counts: Mapping[str, int]


def told_in(data: Path) -> Told | None:
    """What a watcher said last in a data folder; None where none ever ran."""
    return _read(data / FILE)


def _read(file: Path) -> Told | None:
    try:
        value: Any = json.loads(file.read_text(encoding="utf-8"))
        outcomes = [Outcome(**{**item, "reasons": tuple(item["reasons"])}) for item in value["outcomes"]]
        counts = {str(word): int(count) for word, count in value["counts"].items()}
        return Told(str(value["folder"]), tuple(outcomes), counts)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        log("watch", "the journal can not be read: begun anew", level=logging.WARNING, error=True, file=str(file))
        return None
