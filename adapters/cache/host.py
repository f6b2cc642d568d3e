"""The host tier: folded entries in ordinary memory, under a byte budget.

It is home to what is used from host memory (token embeddings: the engine leases them here), and a waiting room for
adapters, whose home is the device: their copies here are never leased, and go when room is needed.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from adapters.cache.lru import Lru
from adapters.cache.rooms import Key, Rooms, tenant_of
from adapters.cache.victims import choose
from adapters.errors import OutOfRoom


class Entry(Protocol):
    """Whatever a load yields: an `Adapter`, or a `TokenEmbedding`."""

    @property
    def nbytes(self) -> int:
        """Bytes that the entry takes in host memory."""
        ...


class ByteDraft:
    """Would it fit? A count of bytes that changes nothing in the tier."""

    def __init__(self, lru: Lru[Key], free: int) -> None:
        self._lru = lru
        self._free = free

    def give(self, key: Key) -> None:
        """Suppose that a key were evicted."""
        self._free += self._lru.nbytes(key)

    def far(self, keys: Iterable[Key]) -> list[Key]:
        """These keys; bytes lie nowhere in particular."""
        return list(keys)

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether entries of these bytes would fit together."""
        return sum(sizes) <= self._free


class HostTier:
    """Entries by (tenant, digest). Not locked: its owner is `TieredCache`, which is."""

    def __init__(self, budget: int) -> None:
        self.lru: Lru[Key] = Lru(budget, tenant_of)
        self.rooms = Rooms(self.lru)
        self.evictions = 0
        self.bytes_loaded = 0
        self._entries: dict[Key, Entry] = {}

    @property
    def budget(self) -> int:
        """Bytes that the entries may take in all."""
        return self.lru.budget

    def get(self, key: Key) -> Entry | None:
        """The entry, if it is here."""
        return self._entries.get(key)

    def draft(self) -> ByteDraft:
        """A supposition that starts from what is here now."""
        return ByteDraft(self.lru, self.lru.budget - self.lru.used)

    def bare(self) -> ByteDraft:
        """A supposition that starts from the pinned entries only."""
        return ByteDraft(self.lru, self.lru.budget - self.lru.pinned_bytes)

    def reserve(self, key: Key, nbytes: int) -> None:
        """Set bytes aside for an entry that is about to be loaded; raises `OutOfRoom`."""
        self.lru.add(key, nbytes)

    def put(self, key: Key, entry: Entry) -> None:
        """Keep an entry, in its reservation or in free bytes; raises `OutOfRoom`."""
        if key not in self.lru:
            self.lru.add(key, entry.nbytes)
        assert self.lru.nbytes(key) == entry.nbytes, key
        self._entries[key] = entry
        self.bytes_loaded += entry.nbytes

    def offer(self, key: Key, entry: Entry, spare: Collection[Key]) -> bool:
        """Keep an entry if the eviction of others, without those to `spare`, makes room for it."""
        if key in self._entries:
            return False
        choice = choose(self, {key: entry.nbytes}, spare)
        if not choice.fits:
            return False
        for old in choice.gone:
            self.evict(old)
        self.put(key, entry)
        return True

    def evict(self, key: Key) -> None:
        """Give an entry up."""
        self.lru.remove(key)
        self.evictions += self._entries.pop(key, None) is not None

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        faults = [*self.lru.check(), *self.rooms.check()]
        if not self._entries.keys() <= set(self.lru):
            faults.append("an entry is kept that is not booked")
        faults += [
            f"{key} is booked with {self.lru.nbytes(key)} bytes and takes {entry.nbytes}"
            for key, entry in self._entries.items()
            if key in self.lru and self.lru.nbytes(key) != entry.nbytes
        ]
        return tuple(f"host: {fault}" for fault in faults)


def too_large(what: str, needed: int, tier: str, lru: Lru[Key]) -> OutOfRoom:
    """The error for what can never fit, with the numbers that say why."""
    return OutOfRoom(
        f"{what}: {needed} bytes in the {tier} tier of {lru.budget}, of which {lru.pinned_bytes} are pinned"
    )
