"""A run as a frozen value: all that the page, the pictures and a comparison tell. Travels as `run.json`.

Times are seconds after the start of a take unless named otherwise, waits are milliseconds from the intended time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtests.client.plan import Published
from loadtests.scenarios.values import Scenario
from loadtests.served.counters import Counted

FORMAT = "chorus-load/1"
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Waits:
    """Of right answers; None where there were none. `curve` holds (share of all, ms), ever nearer to 1."""

    count: int
    mean: float | None
    p50: float | None
    p75: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Sums:
    """What some samples sum up to, over so many seconds."""

    seconds: float
    requests: int
    verdicts: Mapping[str, int]
    details: Mapping[str, int]  # of what was not right, most frequent first
    offered_per_s: float
    right_per_s: float  # by when the answer came
    rows_per_s: float
    tokens_per_s: float
    waits: Waits
    found: Mapping[str, float]  # share of right answers by the slowest tier that held one of their packages
    adapters: int  # that were asked for


@dataclass(frozen=True)
class Window:
    """A slice of a take: rates by when requests were due and answers came, waits by when requests were due."""

    start: float
    end: float
    offered_per_s: float
    right_per_s: float
    waits: Waits
    found: Mapping[str, float]
    tenants: Mapping[str, float]  # rows in right answers per second


@dataclass(frozen=True)
class Phase:
    """A quiet or busy part of a take, all together and by tenant."""

    start: float
    end: float
    busy: bool
    sums: Sums
    tenants: Mapping[str, Sums]


@dataclass(frozen=True)
class Client:
    """How the client kept up: the worst of its processes; and cores that it, the service and all of the machine used."""

    processes: int
    sent_p99_ms: float
    sent_max_ms: float
    loop_p99_ms: float
    loop_max_ms: float
    connections: int
    cores: float
    service_cores: float | None
    machine_cores: float
    again: int = 0  # requests that were sent a second time, because an idle connection had ended

    @property
    def other_cores(self) -> float | None:
        """What processes used that are no part of the run, where the service is ours."""
        return None if self.service_cores is None else max(0.0, self.machine_cores - self.cores - self.service_cores)

    @property
    def lag_p99_ms(self) -> float:
        """What may have been added to a wait by the client itself."""
        return max(self.sent_p99_ms, self.loop_p99_ms)


@dataclass(frozen=True)
class Take:
    """One step of one round. `rate` is what was to be offered; None in a closed loop."""

    value: float | int | str | None
    round: int
    rate: float | None
    peak: float | None  # requests per second that a closed loop reached before, where that was measured
    warmup_s: float
    sums: Sums
    all_verdicts: Mapping[str, int]  # warm-up included
    tenants: Mapping[str, Sums]
    phases: tuple[Phase, ...]
    windows: tuple[Window, ...]
    blocks: tuple[tuple[float, float | None, float | None], ...]  # throughput, p50, p99 of equal parts: the spread
    published: tuple[Published, ...]
    counted: Counted | None
    client: Client


@dataclass(frozen=True)
class Check:
    """One figure beside what it has to be."""

    figure: str
    value: float | None
    bound: str
    holds: bool


@dataclass(frozen=True)
class Run:
    """One run. `figures` are those of `loadtests.scenarios.figures`, where they could be measured."""

    format: str
    name: str
    scenario: Scenario
    command: str
    seed: int
    began: str
    seconds: float
    environment: Mapping[str, Any]
    service: Mapping[str, Any]
    population: Mapping[str, Any]
    takes: tuple[Take, ...]
    figures: Mapping[str, float | None]
    checks: tuple[Check, ...]
    faults: tuple[str, ...]  # the first wrong answers
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every figure is as it has to be."""
        return all(check.holds for check in self.checks)
