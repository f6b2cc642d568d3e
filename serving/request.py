"""What travels between gateway and engine: frozen values of numpy arrays and digests, no torch.

A `Ticket` is one row of work. The engine answers each ticket with exactly one `Reply`: a `Result` or a `Refusal`.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.refs import AdapterRef

Output = Literal["logits", "hidden_state"]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What to return of a row: the head's logits, or the last hidden states.

    Per-token outputs hold the positions of the ticket's own tokens only (what prompt tuning inserts is left out),
    or just `positions` of them.
    """

    output: Output
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One row: pinned adapters bottom first, optional head and embedding, token ids, and what to return."""

    id: str
    tenant: str
    members: tuple[AdapterRef, ...]
    head: AdapterRef | None  # the package that holds the head; often the top member itself
    embedding: AdapterRef | None  # None is the backbone's own vocabulary
    skip_layers: frozenset[int]
    input_ids: NDArray[np.int32]  # [tokens]
    type_ids: NDArray[np.int32] | None  # [tokens]; None is all zero
    reduction: Reduction
    deadline_ms: float  # time left when the ticket was sent
    inserted: int = 0  # tokens that the bottom member's prompt adds to the row

    @property
    def refs(self) -> tuple[AdapterRef, ...]:
        """Everything that must be leased, without repeats, in a stable order."""
        held = (*self.members, *(ref for ref in (self.head, self.embedding) if ref is not None))
        return tuple(dict.fromkeys(held))


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a ticket spent its time in the engine, in milliseconds."""

    queue: float
    load: float
    forward: float


@dataclass(frozen=True, slots=True)
class Result:
    """A finished row. `output`: logits [labels] or [tokens, labels], or hidden states [tokens, width]; float32."""

    ticket: str
    output: NDArray[np.float32]
    timing: Timing
    residency: dict[str, str]  # digest -> tier in which it was found: "disk", "host" or "device"
    replica: str
    batch_rows: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that got no answer; `code` is a key of `serving.errors.REFUSALS`."""

    ticket: str
    code: str
    detail: str
    replica: str
    retry_after: float | None = None


Reply = Result | Refusal


@dataclass(frozen=True, slots=True)
class Pins:
    """What every engine has to keep resident, as of a revision of the registry."""

    revision: int
    refs: tuple[AdapterRef, ...]


@dataclass(frozen=True, slots=True)
class ResidencyEntry:
    """One package in one tier of one replica."""

    tenant: str
    digest: str
    tier: str  # the highest tier that holds it
    nbytes: int
    leases: int
    pinned: bool
    hits: int
    loads: int


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What one engine says of itself: its tiers, its queue, and every package it holds."""

    replica: str
    ready: bool
    budgets: dict[str, int]  # tier -> bytes
    used: dict[str, int]
    counters: dict[str, int]  # "hits", "misses", "loads", "evictions_device", ...
    entries: tuple[ResidencyEntry, ...]
    queued: int
    running: int
    faults: tuple[str, ...] = field(default=())
