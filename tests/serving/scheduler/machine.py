"""An honest small machine: a few adapters fit, loads end when the test says so, and poisoned rows raise."""

from collections import OrderedDict

import numpy as np

from adapters.refs import AdapterRef
from serving.errors import DependencyFailed
from serving.request import Reduction, Refusal, Result, Ticket, Timing
from tests.serving.samples import stack

SIZE = 1000  # bytes of every adapter


class Clock:
    """Time that moves when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def ref(name, tenant="a"):
    return AdapterRef(tenant, name, 1, f"sha256:{name}")


def ticket(name, tenant="a", adapters=(), tokens=4, deadline_ms=60_000.0):
    return Ticket(
        id=name,
        tenant=tenant,
        composition=stack(*(ref(adapter, tenant) for adapter in adapters)),
        head=None,
        embedding=None,
        input_ids=np.arange(tokens, dtype=np.int32),
        type_ids=None,
        reduction=Reduction("logits"),
        deadline_ms=deadline_ms,
    )


class Machine:
    """Room for `room` adapters; those in use are never evicted."""

    overlaps = False

    def __init__(self, room=100):
        self.room = room
        self.resident = OrderedDict()
        self.loading = []  # references, in the order asked for
        self.asked = []  # (tenant, references), every time
        self.broken = set()  # adapters that can not be loaded
        self.poison = set()  # tickets that make any step with them raise
        self.refused = set()  # tickets that a step refuses
        self.batches = []  # ticket ids of every step that went through
        self.attempts = 0
        self.leaving = set()  # tickets whose adapters leave between the look and the lease, once
        self.running = []  # batches that have begun, the oldest first
        self.fatal = set()  # tickets after which nothing can be computed, as after an accelerator's error
        self.works = True
        self.during = lambda: None  # runs in the middle of a step

    def ready(self, refs):
        return dict.fromkeys(refs, SIZE) if all(ref in self.resident for ref in refs) else None

    def failure(self, refs):
        bad = [ref for ref in refs if ref in self.broken]
        return DependencyFailed(f"{bad[0]} can not be loaded") if bad else None

    def sound(self):
        return self.works

    def moved(self, ref):
        return SIZE

    def prefetch(self, refs, tenant):
        self.asked.append((tenant, refs))
        self.loading += [ref for ref in refs if ref not in self.resident and ref not in self.loading]

    def load(self, count=1):
        """End the oldest loads, evicting what was loaded longest ago."""
        for wanted in self.loading[:count]:
            self.loading.remove(wanted)
            while len(self.resident) >= self.room:
                free = [ref for ref in self.resident if ref not in self.leased]
                if not free:
                    return
                del self.resident[free[0]]
            if wanted not in self.broken:
                self.resident[wanted] = None

    @property
    def leased(self):
        return {ref for step in self.running for ref in step.refs}

    def begin(self, rows, meanwhile):
        self.attempts += 1
        gone = {row.waiting.ticket.id for row in rows} & self.leaving
        self.leaving -= gone
        step = Step(self, rows, gone)
        assert all(ref in self.resident for ref in step.refs), "a row ran without its adapters"
        assert len(self.running) <= self.overlaps, "a batch too many is in the machine"
        self.running.append(step)
        try:
            meanwhile()
            if not self.overlaps:
                step.compute()
        except BaseException:
            self.running.remove(step)
            raise
        return step


class Step:
    """A batch in the machine: computed when it begins, or, where batches overlap, by the time it is finished."""

    def __init__(self, machine, rows, gone):
        self.machine, self.rows, self.gone = machine, rows, gone
        self.held = [row for row in rows if row.waiting.ticket.id not in gone]
        self.refs = {ref for row in self.held for ref in row.waiting.refs}
        self.seconds = None

    def compute(self):
        machine = self.machine
        machine.during()
        assert all(ref in machine.resident for ref in self.refs), "an adapter left while its batch was in the machine"
        machine.works = machine.works and not any(row.waiting.ticket.id in machine.fatal for row in self.held)
        if not machine.works:
            raise RuntimeError("an illegal memory access was encountered")
        if any(row.waiting.ticket.id in machine.poison for row in self.held):
            raise RuntimeError("shapes do not match")

    def finish(self):
        try:
            if self.machine.overlaps:
                self.compute()
        finally:
            self.machine.running.remove(self)
        self.machine.batches.append([row.waiting.ticket.id for row in self.held])
        return [None if row.waiting.ticket.id in self.gone else self._result(row, len(self.held)) for row in self.rows]

    def _result(self, row, rows):
        ticket = row.waiting.ticket
        if ticket.id in self.machine.refused:
            return Refusal(ticket.id, "invalid_arrangement", "no sum of bottlenecks", "r")
        timing = Timing(row.queue_s * 1000, row.load_s * 1000, 1.0)
        return Result(ticket.id, np.zeros(2, np.float32), timing, {}, "r", rows)
