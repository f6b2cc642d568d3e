"""The device tier: one arena, allocated once, in which every adapter has a slot.

A slot is a run of ALIGN units. It is reserved first, filled next and leased last; every use of a run as a slot has its
own generation. What is evicted is wiped before the run is filled again, so that no tenant's weights linger.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch

from adapters.cache.lru import Lru
from adapters.cache.rooms import Key, Rooms, tenant_of
from adapters.cache.runs import Run, Runs
from adapters.cache.staging import Staging
from adapters.weights import ALIGN, Adapter, Resident

# Elements per copy. On the CPU: below torch's threshold for splitting work, or the loader's threads would compete with
# the forward pass; between two copies the interpreter lock is free.
CHUNK = {"cpu": 1 << 14, "cuda": 1 << 22}


@dataclass(slots=True)
class _Slot:
    run: Run
    generation: int
    resident: Resident | None = None


class RunDraft:
    """Would it fit? Free runs that change nothing in the tier."""

    def __init__(self, slots: dict[Key, _Slot], runs: Runs, unit: int) -> None:
        self._slots = slots
        self._runs = runs
        self._unit = unit

    def give(self, key: Key) -> None:
        """Suppose that a key were evicted."""
        self._runs.give(self._slots[key].run)

    def far(self, keys: Iterable[Key]) -> list[Key]:
        """These keys, the far end of the arena first."""
        return sorted(keys, key=lambda key: -self._slots[key].run.start)

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether slots of these bytes would fit together."""
        return self._runs.fits([size // self._unit for size in sizes])


class DeviceTier:
    """Slots by (tenant, digest) in `arena` [elements].

    The books belong to `TieredCache`'s lock; only `write` and `wipe` touch the arena, on the loader thread, and only
    runs which no lease can name. End a lease after its results are on the host: the next `write` may reuse its run.
    """

    def __init__(self, budget: int, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> None:
        self._unit = ALIGN * dtype.itemsize
        units = budget // self._unit
        self.arena = torch.zeros(units * ALIGN, dtype=dtype, device=device)
        self.lru: Lru[Key] = Lru(units * self._unit, tenant_of)
        self.rooms = Rooms(self.lru)
        self.evictions = 0
        self.bytes_loaded = 0
        self._runs = Runs(units)
        self._slots: dict[Key, _Slot] = {}
        self._dirty: deque[Run] = deque()
        self._generation = 0
        self._chunk = CHUNK.get(self.arena.device.type, CHUNK["cuda"])
        self._stream = _stream(self.arena.device) if self.arena.is_cuda else None
        self._staging = None if self._stream is None else Staging.pinned(dtype, self._chunk, self._stream)

    @property
    def budget(self) -> int:
        """Bytes of the arena: the given budget, in whole units."""
        return self.lru.budget

    @property
    def dirty(self) -> bool:
        """Whether something was evicted that is not wiped yet."""
        return bool(self._dirty)

    def nbytes(self, adapter: Adapter) -> int:
        """Bytes of the slot that an adapter needs."""
        return -(-adapter.flat.numel() // ALIGN) * self._unit

    def get(self, key: Key) -> Resident | None:
        """The adapter in its slot, once it is filled."""
        slot = self._slots.get(key)
        return None if slot is None else slot.resident

    def draft(self) -> RunDraft:
        """A supposition that starts from what is here now."""
        return RunDraft(self._slots, self._runs.copy(), self._unit)

    def bare(self) -> RunDraft:
        """A supposition that starts from the pinned slots only, side by side: those that are in the way can be moved."""
        kept = Run(0, self.lru.pinned_bytes // self._unit)
        return RunDraft(self._slots, Runs(self._runs.units, [kept]), self._unit)

    def copy(self, key: Key) -> Adapter | None:
        """What a filled slot holds, in host memory, to be written to another slot."""
        resident = self.get(key)
        if resident is None:
            return None
        with self._beside():
            return replace(resident.adapter, flat=resident.adapter.flat.to("cpu", copy=True))

    def reserve(self, key: Key, nbytes: int) -> None:
        """Give a key a slot, of a new generation; a `draft` must have said that it fits."""
        run = self._runs.take(nbytes // self._unit)
        assert run is not None, (key, nbytes)
        self.lru.add(key, nbytes)
        self._generation += 1
        self._slots[key] = _Slot(run, self._generation)

    def write(self, key: Key, adapter: Adapter) -> Resident:
        """Copy an adapter into its reserved slot, converted to the arena's dtype; slow, chunk by chunk.

        The result holds no host memory: its `flat` is the slot itself. It can be leased after `publish`.
        """
        self.wipe()
        slot = self._slots[key]
        target = self.arena.narrow(0, slot.run.start * ALIGN, adapter.flat.numel())
        if self._staging is None:
            self._copy(adapter.flat, target)
        else:
            self._staging.send(adapter.flat, target)
        self._settle()
        return Resident(replace(adapter, flat=target), self.arena, slot.run.start, slot.generation)

    def publish(self, key: Key, resident: Resident) -> None:
        """Make a written slot visible to `get`."""
        slot = self._slots[key]
        assert slot.generation == resident.generation, key
        assert slot.resident is None, key
        slot.resident = resident
        self.bytes_loaded += self.lru.nbytes(key)

    def evict(self, key: Key) -> None:
        """Give a slot up; its run is free at once, and wiped before it is written again."""
        self.lru.remove(key)
        slot = self._slots.pop(key)
        self._runs.give(slot.run)
        self._dirty.append(slot.run)
        self.evictions += slot.resident is not None

    def wipe(self) -> None:
        """Zero what was evicted since the last call."""
        if not self._dirty:
            return
        while self._dirty:
            run = self._dirty[0]
            stale = self.arena.narrow(0, run.start * ALIGN, run.units * ALIGN)
            with self._beside():
                for start in range(0, stale.numel(), self._chunk):
                    stale[start : start + self._chunk].zero_()
            self._dirty.popleft()  # not before: what failed is tried again
        self._settle()

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        faults = [*self.lru.check(), *self.rooms.check(), *self._runs.check(slot.run for slot in self._slots.values())]
        if self._slots.keys() != set(self.lru):
            faults.append("slots and books name different keys")
        for key, slot in self._slots.items():
            held = slot.resident
            if key in self.lru and slot.run.units * self._unit != self.lru.nbytes(key):
                faults.append(f"{key} is booked with other bytes than its slot has")
            if held is not None and (held.start, held.generation) != (slot.run.start, slot.generation):
                faults.append(f"{key} points to another use of its slot")
        generations = [slot.generation for slot in self._slots.values()]
        if len(set(generations)) != len(generations):
            faults.append("two slots share a generation")
        return tuple(f"device: {fault}" for fault in faults)

    def _copy(self, source: torch.Tensor, target: torch.Tensor) -> None:
        with torch.no_grad():
            for start in range(0, target.numel(), self._chunk):
                target[start : start + self._chunk].copy_(source[start : start + self._chunk])

    def _beside(self) -> AbstractContextManager[object]:
        """On CUDA, a stream of its own: copies run beside the forward pass."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _settle(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))  # the arena is zeroed there: no copy may overtake that
    return stream
