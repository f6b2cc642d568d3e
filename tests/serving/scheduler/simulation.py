"""The real queue, loop and cache on a virtual clock, before a machine whose steps and loads take stated times.

Everything is on one thread and seeded, so that a minute of service passes in a second or two, always in the same way.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import HostTier
from adapters.cache.tiered import TieredCache
from adapters.refs import AdapterRef
from serving.errors import from_library
from serving.metrics import EngineMetrics
from serving.request import Reduction, Result, Ticket, Timing
from serving.scheduler.batcher import Budget
from serving.scheduler.loop import Loop
from serving.scheduler.pace import Pace
from serving.scheduler.queue import FairQueue
from tests.adapters.cache.fakes import UNIT, Registry
from tests.serving.readings import counts
from tests.serving.samples import stack
from tests.serving.scheduler.machine import Clock

LAYERS = 6
STEP_S = 0.05
OVERHEAD_S = 0.007  # of a step: what 32 distinct adapters cost on the machine that the README's figures come from
TOKENS_PER_S = 7000
LOAD_S = 0.005
BUDGET = Budget(64, 4096, 20 * UNIT)


@dataclass(frozen=True)
class Done:
    """An answered row."""

    at: float
    arrived: float
    tenant: str
    cost: int
    step: int
    result: bool

    @property
    def latency(self):
        return self.at - self.arrived


@dataclass
class Step:
    """A batch in the simulated machine, which ends at a time that is known when it begins."""

    simulation: object
    rows: list
    leases: list
    began: float
    turn: float
    ends: float
    seconds: object = None

    def finish(self):
        simulation = self.simulation
        simulation.pass_to(max(self.ends, simulation.clock.now))
        costs = Counter()
        for row, lease in zip(self.rows, self.leases, strict=True):
            costs[row.waiting.ticket.tenant] += LAYERS * row.waiting.tokens
            lease.release()
        if simulation.loader_at is None:  # the end of a lease wakes the loader
            simulation.loader_at = simulation.clock.now + LOAD_S
        simulation.steps.append((self.began, simulation.clock.now, costs))
        self.seconds = self.ends - self.turn if simulation.overlaps else None
        timing, count = Timing(0.0, 0.0, 0.0), len(self.rows)
        return [Result(row.waiting.ticket.id, np.zeros(1, np.float32), timing, {}, "r", count) for row in self.rows]


@dataclass
class Simulation:
    """`submit` rows, now or later; `run` until a time; `done` is what was answered."""

    folder: object
    room: int = 40  # adapters on the device
    budget: Budget = BUDGET
    step_s: float = STEP_S
    seed: int = 0
    overlaps: bool = False  # whether a batch computes by itself once it has begun
    done: list = field(default_factory=list)
    steps: list = field(default_factory=list)  # (begin, end, cost by tenant)
    loads: list = field(default_factory=list)  # (time, reference)

    def __post_init__(self):
        self.clock, self.names = Clock(), count()
        self.chance = np.random.default_rng(self.seed)
        self.events = []  # (time, order, function)
        self.loader_at = None
        self.free = 0.0  # when the machine has done all that began
        self.registry = Registry(self.folder / "blobs")
        self.cache = TieredCache(
            DiskTier(self.folder / "disk", 1 << 30),
            HostTier(8 * self.room * UNIT),
            DeviceTier(self.room * UNIT),
            self.load,
            self.registry.source,
            clock=self.clock,
            loose=0.5,
            threaded=False,
        )
        metrics = EngineMetrics(counts)
        self.queue, self.pace = FairQueue(LAYERS, 4096, self.clock), Pace(LAYERS, self.step_s)
        self.loop = Loop(self, self.queue, self.budget, self.pace, metrics=metrics, replica="r", clock=self.clock)

    def adapter(self, name, tenant="a", units=1) -> AdapterRef:
        return self.registry.publish(name, units, tenant=tenant)

    def load(self, ref, path):
        self.loads.append((self.clock.now, ref))
        return self.registry.load(ref, path)

    def submit(self, tenant, *adapters, tokens=32, deadline_s=600.0, then=lambda: None):
        """One row, now; `then` is called when it is answered."""
        ids = np.zeros(tokens, np.int32)
        ticket = Ticket(
            f"{tenant}{next(self.names)}",
            tenant,
            stack(*adapters),
            None,
            None,
            ids,
            None,
            Reduction("logits"),
            deadline_s * 1e3,
        )
        arrived = self.clock.now

        def sink(replies):
            for reply in replies:
                found = isinstance(reply, Result)
                self.done.append(Done(self.clock.now, arrived, tenant, LAYERS * tokens, len(self.steps), found))
            then()

        self.loop.submit([ticket], sink)

    def at(self, time, function):
        """Call something at a time, seconds from the start."""
        heapq.heappush(self.events, (100.0 + time, next(self.names), function))

    def backlog(self, tenant, rows, tokens=lambda: 32, adapters=lambda: ()):
        """Keep so many rows of a tenant waiting: each answer brings the next."""

        def one():
            self.submit(tenant, *adapters(), tokens=tokens(), then=one)

        for _ in range(rows):
            self.at(0.0, one)

    def arrivals(self, tenant, every_s, until, tokens=lambda: 32, adapters=lambda: (), start=0.0):
        """Rows at random times, one in `every_s` on average, whatever becomes of them."""
        time = start
        while (time := time + self.chance.exponential(every_s)) < until:
            self.at(time, lambda: self.submit(tenant, *adapters(), tokens=tokens()))

    def run(self, until):
        end = 100.0 + until
        while self.clock.now < end:
            self.pass_to(self.clock.now)
            if not self.loop.turn():
                times = [self.events[0][0]] if self.events else []
                times += [self.loader_at] if self.loader_at is not None else []
                due = self.queue.next_deadline()
                self.pass_to(min([end, *times, *([due] if due is not None else [])]))
            assert self.loop.check() == ()
        assert self.cache.check() == ()
        return self

    def pass_to(self, time):
        """Let time go on, with what arrives and what the loader does meanwhile."""
        while True:
            loading = self.loader_at if self.loader_at is not None else float("inf")
            arriving = self.events[0][0] if self.events else float("inf")
            if min(loading, arriving) > time:
                break
            self.clock.now = max(self.clock.now, min(loading, arriving))
            if loading <= arriving:
                self.loader_at = self.clock.now + LOAD_S if self.cache.turn() else None
            else:
                heapq.heappop(self.events)[2]()
        self.clock.now = max(self.clock.now, time)

    # What the loop needs of an engine.

    def ready(self, refs):
        return dict.fromkeys(refs, UNIT) if self.cache.ready(refs) else None

    def prefetch(self, refs, tenant):
        self.cache.prefetch(refs, tenant)
        if self.loader_at is None:
            self.loader_at = self.clock.now + LOAD_S

    def sound(self):
        return True

    def moved(self, ref):
        return UNIT

    def failure(self, refs):
        error = self.cache.obstacle(refs)
        return None if error is None else from_library(error)

    def begin(self, rows, meanwhile):
        leases = [self.cache.try_acquire(row.waiting.refs) for row in rows]
        assert all(lease is not None for lease in leases), "on one thread nothing leaves between the look and the lease"
        meanwhile()
        began, tokens = self.clock.now, sum(row.waiting.tokens for row in rows)
        self.pass_to(began + OVERHEAD_S)
        turn = max(began, self.free)  # when the machine comes to it
        self.free = max(self.clock.now, self.free) + tokens / TOKENS_PER_S
        step = Step(self, rows, leases, began, turn, self.free)
        if not self.overlaps:
            self.pass_to(step.ends)
        return step

    # What a test asks.

    def latencies(self, tenant, after=0.0):
        return sorted(done.latency for done in self.done if done.tenant == tenant and done.arrived >= 100.0 + after)

    def served(self, begin, end):
        """Cost by tenant of the steps that ended between two times."""
        total = Counter()
        for _, ended, costs in self.steps:
            if 100.0 + begin < ended <= 100.0 + end:
                total += costs
        return total

    def longest_step(self, after=1.0):
        return max(ended - began for began, ended, _ in self.steps if began >= 100.0 + after)


def p99(sorted_latencies):
    return sorted_latencies[min(len(sorted_latencies) - 1, int(0.99 * len(sorted_latencies)))]
