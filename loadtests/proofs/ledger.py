"""What was acknowledged, written down by whoever heard it, in one file that outlives every kill; and what must hold of it.

A line is one `write` in append mode: a process that is killed leaves whole lines or none.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Stored = Mapping[str, Mapping[int, str]]  # name -> version -> digest, as the registry tells it


@dataclass(frozen=True)
class Ack:
    """One acknowledged publish: who asked, with which of its packages, and what the answer said."""

    client: int
    item: int
    name: str
    version: int
    digest: str
    created: bool  # False: the answer said that these bytes were a version already
    life: int  # of the publishing process

    def line(self) -> bytes:
        """As it stands in the file."""
        words = (self.client, self.item, self.name, self.version, self.digest, int(self.created), self.life)
        return (" ".join(map(str, words)) + "\n").encode()

    @classmethod
    def read(cls, line: str) -> "Ack":
        """The reverse; raises `ValueError` for another line."""
        client, item, name, version, digest, created, life = line.split()
        return cls(int(client), int(item), name, int(version), digest, created == "1", int(life))


class Ledger:
    """The file, open for appending; every process opens its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0  # bytes
        self._lines = 0
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, ack: Ack) -> None:
        """Write an acknowledgement down."""
        line = ack.line()
        if os.write(self._descriptor, line) != len(line):
            raise OSError(f"{self._path}: a line was cut short")

    def __len__(self) -> int:
        """Lines so far, whoever wrote them; cheap to ask again and again."""
        if os.fstat(self._descriptor).st_size > self._seen:
            with self._path.open("rb") as file:
                file.seek(self._seen)
                more = file.read()
            self._seen += len(more)
            self._lines += more.count(b"\n")
        return self._lines

    def read(self) -> list[Ack]:
        """Every line."""
        return [Ack.read(line) for line in self._path.read_text().splitlines()]

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def starts(acks: Iterable[Ack], clients: int) -> tuple[int, ...]:
    """For each client its first package that was not acknowledged; each sends them in order."""
    done = Counter(ack.client for ack in acks)
    return tuple(done[client] for client in range(clients))


@dataclass(frozen=True)
class Verdict:
    """How many acknowledged versions the registry does not hold as acknowledged, and how many it holds too often."""

    lost: int
    doubled: int
    numbered_twice: int
    unasked: int
    gaps: int


def judge(acks: Sequence[Ack], stored: Stored, *, settled: bool = True) -> Verdict:
    """Compare. `settled`: nobody was publishing any more, so that every stored version was acknowledged in the end."""
    lost = sum(stored.get(ack.name, {}).get(ack.version) != ack.digest for ack in acks)
    doubled = sum(len(held) - len(set(held.values())) for held in stored.values())
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    owners: dict[tuple[str, int], set[str]] = defaultdict(set)
    for ack in acks:
        numbers[ack.name, ack.digest].add(ack.version)
        owners[ack.name, ack.version].add(ack.digest)
    twice = sum(len(found) - 1 for found in numbers.values()) + sum(len(found) - 1 for found in owners.values())
    held_keys = {(name, version) for name, held in stored.items() for version in held}
    unasked = len(held_keys - owners.keys()) if settled else 0
    gaps = sum(set(held) != set(range(1, len(held) + 1)) for held in stored.values())
    return Verdict(lost, doubled, twice, unasked, gaps)
