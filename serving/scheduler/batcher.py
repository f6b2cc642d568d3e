"""The budget of a step, and the batch that fills it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

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


class Fit(Enum):
    """Whether a row goes with a batch: in, short of device bytes (another row may do), or the batch is full."""

    IN = "in"
    SHORT = "short"
    FULL = "full"


class Batcher:
    """A batch being filled. Adapters that several rows share are counted once.

    The first row is always admitted: a row larger than the whole budget runs alone and not never.
    """

    def __init__(self, budget: Budget) -> None:
        self._left = budget
        self._held: set[AdapterRef] = set()
        self.tokens = 0
        self.rows: list[Waiting] = []

    @property
    def full(self) -> bool:
        """Whether no further row can be admitted."""
        return self._left.rows <= 0 or self._left.tokens <= 0

    def admit(self, row: Waiting, nbytes: Mapping[AdapterRef, int]) -> Fit:
        """Take the row if it fits beside the others; `nbytes` is what each of its adapters holds on the device."""
        fresh = [ref for ref in nbytes if ref not in self._held]
        need = Budget(1, row.tokens, sum(nbytes[ref] for ref in fresh))
        if self.rows:
            if need.rows > self._left.rows or need.tokens > self._left.tokens:
                return Fit.FULL
            if need.device_bytes > self._left.device_bytes:
                return Fit.SHORT
        self._left -= need
        self._held.update(fresh)
        self.tokens += row.tokens
        self.rows.append(row)
        return Fit.IN
