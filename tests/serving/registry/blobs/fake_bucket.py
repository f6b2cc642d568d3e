"""A bucket in memory whose n-th request fails in one of the ways that buckets have."""

from collections.abc import Iterator
from pathlib import Path

from serving.registry.blobs.bucket import Held
from serving.registry.blobs.refusals import away, storing

REFUSED = "refused"  # no answer, nothing done: an outage, or a stall that ended with the deadline
UNHEARD = "unheard"  # done, and the answer lost
TRUNCATED, FLIPPED, OTHER = "truncated", "flipped", "other"  # what was read, or stored, is not what it should be
FAULTS = (REFUSED, UNHEARD, TRUNCATED, FLIPPED, OTHER)


class FakeBucket:
    def __init__(self, clock=lambda: 1_000_000.0) -> None:
        self.held: dict[str, tuple[bytes, float]] = {}
        self.asked: list[str] = []
        self._clock = clock
        self._fault, self._at = "", 0

    def fail(self, fault: str, at: int) -> None:
        """Have the request number `at` from now on (1 is the next) fail; 0 is never."""
        self._fault, self._at = fault, at + len(self.asked) if at else 0

    @property
    def failed(self) -> bool:
        return 0 < self._at <= len(self.asked)

    def put(self, key: str, file: Path, *, create: bool) -> bool:
        with storing():
            return self._ask("put", lambda: self._put(key, file.read_bytes(), create=create))

    def head(self, key: str) -> Held | None:
        return self._ask("head", lambda: self._head(key))

    def read(self, key: str, start: int, end: int) -> bytes | None:
        return self._ask("read", lambda: self.held[key][0][start:end] if key in self.held else None)

    def delete(self, key: str) -> None:
        self._ask("delete", lambda: self.held.pop(key, None))

    def objects(self, prefix: str) -> Iterator[Held]:
        for key in self._ask("objects", lambda: [k for k in self.held if k.startswith(f"{prefix}/")]):
            if key in self.held:
                yield Held(key, len(self.held[key][0]), self.held[key][1])

    def _put(self, key, data, *, create):
        if create and key in self.held:
            return False
        self.held[key] = (self._damaged(data) if self._now and self._fault in FAULTS[2:] else data, self._clock())
        return True

    def _head(self, key):
        return Held(key, len(self.held[key][0]), self.held[key][1]) if key in self.held else None

    @property
    def _now(self):
        return len(self.asked) == self._at

    def _ask(self, name, answer):
        self.asked.append(name)
        if self._now and self._fault == REFUSED:
            raise away("refused")
        told = answer()
        if self._now and self._fault == UNHEARD:
            raise away("unheard")
        return self._damaged(told) if self._now and isinstance(told, bytes) else told

    def _damaged(self, data):
        if self._fault == TRUNCATED:
            return data[: len(data) // 2]
        if self._fault == FLIPPED:
            return bytes([data[0] ^ 1]) + data[1:]
        return b"another object of this bucket"
