"""A door with its surroundings on paper: a clock that moves when told, quotas, gateways, and what engines say."""

from dataclasses import dataclass, field

import numpy as np

from serving.registry.records import Quota
from serving.request import Holding, Refusal, Result, Timing
from serving.tenancy.admission import Admission, Scale

LAYERS = 2


class Clock:
    """Time that moves when told."""

    def __init__(self, now=100.0):
        self.now = now

    def __call__(self):
        return self.now


@dataclass
class Surroundings:
    clock: Clock = field(default_factory=Clock)
    quotas: dict[str, Quota] = field(default_factory=dict)
    gateways: int = 1
    held: dict[str, Holding] = field(default_factory=dict)
    jitter: float = 0.5

    def door(self) -> Admission:
        return Admission(
            Scale(LAYERS, max_tokens=16),
            quota=lambda tenant: self.quotas.get(tenant, Quota()),
            gateways=lambda: self.gateways,
            holdings=lambda: self.held,
            clock=self.clock,
            jitter=lambda: self.jitter,
        )

    def says(self, rate=100.0, free=None, **lines):
        cost = sum(lines.values())
        held = Holding("e", frozenset(), cost, rate, LAYERS, lines=tuple(lines.items()), free_rows=free)
        self.held = {"e": held}


def result(queue_s=0.0, forward_s=0.0, load_s=0.0) -> Result:
    return Result("t", np.zeros(1, np.float32), Timing(queue_s * 1e3, load_s * 1e3, forward_s * 1e3), {}, "e", 1)


def refusal(code: str) -> Refusal:
    return Refusal("t", code, "because", "e")
