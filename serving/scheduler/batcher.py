"""The budget of a step, and the batch that fills it."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.refs import AdapterRef
from serving.scheduler.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount of rows, of tokens, and of bytes of adapters on the device; a value, never changed."""

    rows: int
    tokens: int
    device_bytes: int

    def __sub__(self, need: "Budget") -> "Budget":
        return Budget(self.rows - need.rows, self.tokens - need.tokens, self.device_bytes - need.device_bytes)

    def covers(self, need: "Budget") -> bool:
        """Whether `need` fits in every respect."""
        return need.rows <= self.rows and need.tokens <= self.tokens and need.device_bytes <= self.device_bytes


class Batcher:
    """A batch being filled. Adapters that several rows share are counted once.

    The first row is always admitted: a row larger than the whole budget runs alone and not never.
    """

    def __init__(self, budget: Budget) -> None:
        self._left = budget
        self._held: dict[AdapterRef, int] = {}
        self.rows: list[Waiting] = []

    @property
    def full(self) -> bool:
        """Whether no further row can be admitted."""
        return self._left.rows <= 0 or self._left.tokens <= 0

    def admit(self, row: Waiting, nbytes: Mapping[AdapterRef, int]) -> bool:
        """Take the row if it fits beside the others; `nbytes` is what each of its adapters holds on the device."""
        fresh = {ref: size for ref, size in nbytes.items() if ref not in self._held}
        need = Budget(1, row.tokens, sum(fresh.values()))
        if self.rows and not self._left.covers(need):
            return False
        self._left -= need
        self._held |= fresh
        self.rows.append(row)
        return True
