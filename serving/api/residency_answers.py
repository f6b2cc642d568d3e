"""What the routes about engines answer: what an action came to on each of them, and what each holds."""

from typing_extensions import TypedDict


class ReplicasAnswer(TypedDict):
    """What each engine replica made of a preload, unload, pin or unpin: a tier, or `error: ` and why not."""

    name: str
    version: int
    digest: str
    action: str
    replicas: dict[str, str]


class EntryAnswer(TypedDict):
    """One package in one replica; `references` are the caller's names for these bytes, `name@version` each."""

    references: list[str]
    digest: str
    tier: str
    bytes: int
    leases: int
    pinned: bool
    hits: int
    loads: int


class ReplicaAnswer(TypedDict):
    """One engine replica: bytes by tier, counters, its queue, and the caller's packages that it holds.

    Costs count tokens x layers: what waits, how much of it is the caller's (by tenant, for the scope `admin`), and what
    is done in a second (0 while it is not known). `pins_refused` says of a version why it is not kept here.
    """

    replica: str
    ready: bool
    budgets: dict[str, int]
    used: dict[str, int]
    counters: dict[str, int]
    queued: int
    running: int
    faults: int
    warm: bool
    queued_cost: float
    cost_per_s: float
    waiting: dict[str, float]
    pins_refused: dict[str, str]
    entries: list[EntryAnswer]


class ResidencyAnswer(TypedDict):
    """What is where."""

    replicas: list[ReplicaAnswer]
