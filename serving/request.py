"""What travels between gateway and engine: frozen values of numpy arrays and digests, no torch.

A `Ticket` is one row of work. The engine answers each ticket with exactly one `Reply`: a `Result` or a `Refusal`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.composition import Block, Composition, Fuse, Leaf
from adapters.refs import AdapterRef

Output = Literal["logits", "hidden_state"]
Pooling = Literal["mean", "cls", "max", "last"]


@dataclass(frozen=True, slots=True)
class Reduction:
    """What to return of a row: the head's logits, or the last hidden states, and how much of them.

    Per-token outputs hold the ticket's own tokens only (what prompt tuning inserts is left out), or just `positions` of
    them. Of logits [n, vocabulary] come the `top` largest of each position, or those of the ids in `chosen`, each time
    with the log of the sum of exponentials over the whole vocabulary as one more column: probability = exp(logit - it).
    Of arcs [words, words + 1, 1 + relations] come, with `best_head`, [words, words + 1 + relations]: the arc scores of
    each word, then the relation scores at its best head. Hidden states are pooled to one vector, then of length one.
    """

    output: Output
    positions: tuple[int, ...] | None = None
    top: int | None = None
    chosen: tuple[int, ...] | None = None
    best_head: bool = False
    pooling: Pooling | None = None
    normalize: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Reduced:
    """What is left of a row's output, float32; `indices` are the vocabulary ids of its columns but the last."""

    output: NDArray[np.float32]
    indices: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One row: a pinned composition, optional head and embedding, token ids, and what to return.

    Of an image the tokens are the class token and the patches; their ids mean nothing, and the `pixels` are a byte each:
    numbers, four times as much, are made of them where they run.
    The composition's leaves and fusions are `AdapterRef`s; `Parallel` and `MultiTask` have become rows of their own.
    """

    id: str
    tenant: str
    composition: Composition
    head: AdapterRef | None  # the package that holds the head; often the last adapter itself
    embedding: AdapterRef | None  # None is the backbone's own vocabulary
    input_ids: NDArray[np.int32]  # [tokens]
    type_ids: NDArray[np.int32] | None  # [tokens]; None is all zero
    reduction: Reduction
    deadline_ms: float  # time left when the ticket was sent
    inserted: int = 0  # tokens that the first adapter's prompt adds to the row
    word_starts: tuple[int, ...] | None = None  # first token of every word, and one past the last word
    visits: float = (
        1.0  # layers that the row visits, over those of the backbone; another number where some are replicated
    )
    pixels: NDArray[np.uint8] | None = None  # [height, width, 3]

    @property
    def refs(self) -> tuple[AdapterRef, ...]:
        """Everything that must be leased, without repeats, in a stable order."""
        held = (*pinned(self.composition.block), *(ref for ref in (self.head, self.embedding) if ref is not None))
        return tuple(dict.fromkeys(held))


def tokens_run(tokens: int, inserted: int, visits: float) -> int:
    """Tokens through all of the backbone's layers that a row costs as much as: its own and a prompt's, for its visits."""
    own = tokens + inserted
    return own if visits == 1.0 else math.ceil(own * visits)


def pinned(block: Block) -> Iterator[AdapterRef]:
    """Every adapter and fusion of a resolved block, in the order written (a fusion after what it fuses)."""
    if isinstance(block, Leaf):
        assert isinstance(block.ref, AdapterRef), "a ticket names versions, not names"
        yield block.ref
        return
    for child in block.children:
        yield from pinned(child)
    if isinstance(block, Fuse) and block.name is not None:
        assert isinstance(block.name, AdapterRef), "a ticket names versions, not names"
        yield block.name


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a ticket spent its time in the engine, in milliseconds."""

    queue: float
    load: float
    forward: float


@dataclass(frozen=True, slots=True)
class Result:
    """A finished row. `output`: logits [labels] or [tokens, labels], or hidden states [tokens, width]; float32.

    What else it may be is said by the ticket's `Reduction`; `indices` as in `Reduced`.
    """

    ticket: str
    output: NDArray[np.float32]
    timing: Timing
    residency: dict[str, str]  # digest -> tier in which it was found: "disk", "host" or "device"
    replica: str
    batch_rows: int
    indices: NDArray[np.int32] | None = None

    @property
    def reduced(self) -> Reduced:
        """The row's own share."""
        return Reduced(self.output, self.indices)


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
class Share:
    """What a tenant may have of every engine: its weight in the queue, and its device room in bytes.

    Others' loads never evict what keeps the tenant at or under its `floor`; its own loads never take it over `ceiling`.
    """

    weight: float = 1.0
    floor: int = 0
    ceiling: int | None = None  # None: all there is


@dataclass(frozen=True, slots=True)
class Desired:
    """What every engine has to bring about, as of a revision of the registry; tenants without a share have `Share()`."""

    revision: int
    pins: tuple[AdapterRef, ...] = ()
    shares: tuple[tuple[str, Share], ...] = ()  # by tenant


@dataclass(frozen=True, slots=True)
class Address:
    """Where an engine takes tickets; what a gateway has to say there first, and what only that engine answers."""

    host: str
    port: int
    password: str = field(repr=False)
    countersign: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one engine says for routing and admission, once a second.

    `cost` counts layers x tokens, as the queue does; `cost_per_s` is the measured rate, 0 while it is not known.
    """

    replica: str
    keys: frozenset[tuple[str, str]]  # (tenant, digest) of what is on the device or in host memory
    queued_cost: float = 0.0
    cost_per_s: float = 0.0
    layers: int = 0
    revision: int = -1  # of the `Desired` that it works on
    warm: bool = True  # every pin of it is resident, or was refused
    lines: tuple[tuple[str, float], ...] = ()  # (tenant, queued cost), the longest first, at most 64 of them
    free_rows: int | None = None  # that the queue can still take; None is not said
    bad: frozenset[str] = frozenset()  # as in `ReplicaReport`
    listens: Address | None = None  # None: nowhere yet


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
class TenantLine:
    """What waits in one engine for a tenant: rows, their cost (layers x tokens), and the weight that they are served by."""

    tenant: str
    rows: int
    cost: int
    weight: float
    nbytes: int = 0  # of the tenant's packages on the device


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
    lines: tuple[TenantLine, ...] = ()  # the costliest first, at most 20 of `waiting_tenants`
    waiting_tenants: int = 0
    cost_per_s: float = 0.0  # the measured rate; 0 while it is not known
    draining: bool = False  # takes no new work
    floors_kept: float = 1.0  # how much of the promised device floors there is room for beside pins and one batch
    pins_refused: dict[str, str] = field(default_factory=dict)  # version -> why it could not be pinned here
    bad: frozenset[str] = frozenset()  # digests that could not be pinned or preloaded: their bytes are lost or wrong
