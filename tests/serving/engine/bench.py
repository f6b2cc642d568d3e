"""An engine on a tiny backbone, with a folder of published packages."""

import time
from dataclasses import replace

import numpy as np
import torch

from adapters.batch.rows import Row, members_of
from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import HostTier
from adapters.formats import native
from adapters.manifest import Manifest, PartSpec
from adapters.methods.fold import expected, fold
from adapters.refs import AdapterRef
from adapters.weights import Package
from serving.engine.build import Parts
from serving.engine.engine import Engine
from serving.engine.forward import BackboneForward
from serving.engine.loading import Loader
from serving.engine.rehearsal import rows_of
from serving.request import Reduction, Result, Ticket
from serving.scheduler.batcher import Budget
from tests.adapters import builders
from tests.serving.samples import stack

LOGITS, HIDDEN = Reduction("logits"), Reduction("hidden_state")
BUDGET = Budget(16, 512, 1 << 30)


def package(seed, part="seq_bn", head="two_layers"):
    parts = [] if part is None else [builders.PARTS[part]]
    return builders.package("bert", parts, None if head is None else builders.HEADS[head], seed)


def fusion_package(seed, children=("a", "b")):
    """A fusion of bottlenecks, with random weights of a strength that shows."""
    config = {"query": True, "key": True, "value": True, "query_before_ln": False, "residual_before": True}
    config |= {"value_before_softmax": True, "sites": builders.sites(("ffn_junction",))}
    manifest = Manifest("fusion", builders.requires("bert"), (PartSpec("fusion", config),), children=children)
    generator = torch.Generator().manual_seed(seed)
    shapes = expected(manifest, builders.profile("bert"))
    return Package(manifest, {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()})


class Late(BackboneForward):
    """A `Forward` of a device that computes by itself, as late as it may: what it reads is what is there at the end."""

    overlaps = True

    def __init__(self, backbone):
        super().__init__(backbone)
        self.waiting, self.most = [], 0  # batches that were begun, and how many there were at once

    def begin(self, rows):
        self.waiting.append(rows)
        self.most = max(self.most, len(self.waiting))
        return LatePass(self, rows, super().begin)


class LatePass:
    def __init__(self, forward, rows, begin):
        self.forward, self.rows, self.begin, self.seconds = forward, rows, begin, None

    def finish(self):
        self.forward.waiting.remove(self.rows)
        shares, self.seconds = self.begin(self.rows).finish(), 0.25
        return shares


class Bench:
    """`publish` packages, `send` tickets, `turn` by hand or start the thread; `replies` by ticket."""

    def __init__(self, folder, *, device_bytes=1 << 22, forward=None, budget=BUDGET, clock=time.monotonic):
        self.blobs = folder / "blobs"
        self.blobs.mkdir(parents=True)
        self.packages = {}
        self.backbone = builders.backbone("bert")
        self.device = DeviceTier(device_bytes)
        self.released = []
        self.parts = Parts(
            forward=forward or BackboneForward(self.backbone),
            loader=Loader(self.backbone.profile, torch.float32, self.backbone.base_maps),
            disk=DiskTier(folder / "cache", 1 << 28),
            host=HostTier(1 << 28),
            device=self.device,
            source=lambda digest: self.blobs / digest,
            layers=builders.LAYERS,
            budget=budget,
            max_queued=10_000,
            release=lambda: self.released.append(True),
            rehearsal=rows_of(self.backbone.profile.geometry),
        )
        self.engine = Engine(self.parts, "r1", clock)
        self.groups = []
        self.sent = 0

    def publish(self, name, package, tenant="a"):
        """The reference under which the engine finds a package."""
        data = native.write(package)
        ref = AdapterRef(tenant, name, 1, native.digest(data))
        (self.blobs / ref.digest).write_bytes(data)
        self.packages[ref] = package
        return ref

    def ticket(self, *adapters, head=None, embedding=None, reduction=LOGITS, length=7, tenant="a", **other):
        self.sent += 1
        ids = builders.ids(self.sent, length).astype(np.int32)
        deadline = other.pop("deadline_ms", 60_000.0)
        return replace(
            Ticket(f"t{self.sent}", tenant, stack(*adapters), head, embedding, ids, None, reduction, deadline),
            **other,
        )

    def run(self, *tickets):
        """Replies of tickets whose packages are loaded first, in as few batches as the budget allows."""
        for ref in {ref for ticket in tickets for ref in ticket.refs}:
            self.engine.preload(ref)
        self.engine.submit(tickets, self.groups.append)
        while self.engine._loop.turn():
            pass
        return [self.replies[ticket.id] for ticket in tickets]

    @property
    def replies(self):
        return {reply.ticket: reply for group in self.groups for reply in group}

    def alone(self, ticket):
        """What the library answers to this row on its own."""
        profile, base = self.backbone.profile, self.backbone.base_maps
        folded = [fold(self.packages[ref], profile, torch.float32, base) for ref in ticket.refs]
        held = dict(zip(ticket.refs, builders.in_one_arena(folded), strict=True))
        row = Row(
            members_of(ticket.composition, held.__getitem__),
            None if ticket.head is None else held[ticket.head],
            None,
            ticket.input_ids.astype(np.int64),
            None if ticket.type_ids is None else ticket.type_ids.astype(np.int64),
            skip_layers=ticket.composition.skip_layers,
            word_starts=ticket.word_starts,
        )
        return self.backbone.run([row], [ticket.reduction.output])[0].numpy()


def outputs(replies):
    assert all(isinstance(reply, Result) for reply in replies), replies
    return [reply.output for reply in replies]
