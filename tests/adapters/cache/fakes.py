"""Honest stand-ins for what surrounds the cache: a registry of blobs, a load function with gates, a manual clock."""

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch

from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import HostTier
from adapters.cache.tiered import TieredCache
from adapters.manifest import Manifest, PartSpec
from adapters.refs import AdapterRef
from adapters.requires import Requires
from adapters.weights import ALIGN, Adapter

UNIT = ALIGN * 4  # bytes of one slot unit in float32
MANIFEST = Manifest("adapter", Requires("bert", 32, 2, 2), (PartSpec("lora", {}),))
WAIT = 20.0  # seconds before a test that hangs is called failed


def adapter(value: float, units: int) -> Adapter:
    """A folded adapter that is one number everywhere."""
    return Adapter(MANIFEST, {}, None, {}, None, torch.full((units * ALIGN,), float(value)))


@dataclass(frozen=True, eq=False)
class Embedding:
    """An entry that is used from host memory."""

    nbytes: int


class Clock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Registry:
    """Blobs in a folder; `fetched` and `loaded` count the calls per name."""

    folder: Path
    fetched: Counter = field(default_factory=Counter)
    loaded: Counter = field(default_factory=Counter)
    gates: dict = field(default_factory=dict)  # name -> Event that its load waits for
    entered: dict = field(default_factory=dict)  # name -> Event that its load sets
    broken: dict = field(default_factory=dict)  # name -> exception that its load raises
    _values: dict = field(default_factory=dict)

    def publish(self, name: str, units: int, *, tenant: str = "t", embedding: bool = False) -> AdapterRef:
        value = self._values.setdefault(name, len(self._values) + 1)
        content = f"{'embedding' if embedding else 'adapter'} {value} {units}".encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blob(digest).write_bytes(content)
        return AdapterRef(tenant, name, 1, digest)

    def blob(self, digest: str) -> Path:
        self.folder.mkdir(exist_ok=True)
        return self.folder / digest.removeprefix("sha256:")

    def value(self, ref: AdapterRef) -> float:
        return float(self._values[ref.name])

    def source(self, digest: str) -> Path:
        self.fetched[digest] += 1
        return self.blob(digest)

    def gate(self, ref: AdapterRef) -> tuple[threading.Event, threading.Event]:
        """Hold the load of an entry; returns (entered, go)."""
        self.entered[ref.name], self.gates[ref.name] = threading.Event(), threading.Event()
        return self.entered[ref.name], self.gates[ref.name]

    def load(self, ref: AdapterRef, path: Path) -> Adapter | Embedding:
        self.loaded[ref.name] += 1
        if ref.name in self.gates:
            self.entered[ref.name].set()
            assert self.gates[ref.name].wait(WAIT)
        if ref.name in self.broken:
            raise self.broken[ref.name]
        kind, value, units = path.read_text().split()
        return Embedding(int(units) * UNIT) if kind == "embedding" else adapter(float(value), int(units))


class World:
    """A cache over a registry, with budgets in units."""

    def __init__(self, folder: Path, device: int, host: int = 1000, disk: int = 1_000_000, **options) -> None:
        self.clock = Clock()
        self.turns = 0
        self.registry = Registry(folder / "blobs")
        self.cache = TieredCache(
            DiskTier(folder / "disk", disk),
            HostTier(host * UNIT),
            DeviceTier(device * UNIT),
            self.registry.load,
            self.registry.source,
            clock=self.clock,
            **options,
        )

    def publish(self, names: str, units: int, **options) -> list[AdapterRef]:
        return [self.registry.publish(name, units, **options) for name in names]

    def right(self, lease, ref: AdapterRef) -> bool:
        """Whether a leased adapter has its own weights, and nothing else, in its slot."""
        held = lease.resident[ref]
        slot = held.arena.narrow(0, held.start * ALIGN, held.adapter.flat.numel())
        return bool((slot == self.registry.value(ref)).all())

    def work(self) -> None:
        """Do all that the loader of a cache without a thread has to do."""
        while self.cache.turn():
            pass

    def until(self, condition) -> None:
        """Wait for the loader to make something true."""
        with self.cache._changed:
            assert self.cache._changed.wait_for(condition, WAIT)

    def tick(self, seconds: float) -> None:
        """Let time pass, and wake the loader as its own timeout would."""
        with self.cache._changed:
            self.clock.now += seconds
            self.cache._changed.notify_all()

    def settle(self) -> None:
        """Wait until the loader has done all that could be done: it serves the line in order, this one last."""
        self.turns += 1
        self.cache.acquire([self.registry.publish(f"turn {self.turns}", 0)], WAIT).release()
