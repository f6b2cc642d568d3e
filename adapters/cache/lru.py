"""The book-keeping of every tier: who holds how many bytes, who is leased or pinned, who was used longest ago.

It knows keys and byte counts only: no tensors, no clock, no files, no lock. The owner of a tier makes room (`room`,
`victims`, `remove`) before it adds; nothing is evicted behind its back.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, KeysView
from dataclasses import dataclass
from typing import Generic, TypeVar

from adapters.errors import OutOfRoom

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Item:
    nbytes: int
    leases: int = 0


class Lru(Generic[K]):
    """Keys under a byte budget, in the order of their last use (adding and leasing are uses).

    `owner` says to whom a key's bytes are counted; without it all are one owner's.
    """

    def __init__(self, budget: int, owner: Callable[[K], str] = lambda _: "") -> None:
        self.budget = budget
        self.owner = owner
        self.used = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self._items: OrderedDict[K, _Item] = OrderedDict()
        self._pinned: dict[K, None] = {}
        self._held: Counter[str] = Counter()  # by owner; no zeros
        self._kept: Counter[str] = Counter()  # of that, pinned; no zeros
        self.pinned_bytes = 0

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[K]:
        """Every key, longest unused first."""
        return iter(tuple(self._items))

    @property
    def pinned(self) -> KeysView[K]:
        """The keys that only `unpin` can release for eviction, as they are at any time."""
        return self._pinned.keys()

    @property
    def owners(self) -> tuple[str, ...]:
        """Everyone who holds bytes."""
        return tuple(self._held)

    def held(self, owner: str) -> int:
        """Bytes of an owner's keys."""
        return self._held[owner]

    def pinned_of(self, owner: str) -> int:
        """Bytes of an owner's pinned keys."""
        return self._kept[owner]

    def nbytes(self, key: K) -> int:
        """What the key was added with."""
        return self._items[key].nbytes

    def leases(self, key: K) -> int:
        """How many leases are open on a key; 0 for an unknown one."""
        item = self._items.get(key)
        return 0 if item is None else item.leases

    def add(self, key: K, nbytes: int) -> None:
        """Take a new key in; raises `OutOfRoom` unless the bytes are free now (see `room`)."""
        assert key not in self._items, key
        assert nbytes >= 0, key
        if self.used + nbytes > self.budget:
            raise OutOfRoom(f"{nbytes} bytes wanted, {self.used} of {self.budget} are taken")
        self._items[key] = _Item(nbytes)
        self.used += nbytes
        self.bytes_in += nbytes
        if nbytes:
            self._held[self.owner(key)] += nbytes

    def remove(self, key: K) -> int:
        """Give up a key that is neither leased nor pinned; returns its bytes."""
        assert key not in self._pinned, key
        assert not self._items[key].leases, key
        item = self._items.pop(key)
        self.used -= item.nbytes
        self.bytes_out += item.nbytes
        owner = self.owner(key)
        self._held[owner] -= item.nbytes
        if not self._held[owner]:
            del self._held[owner]
        return item.nbytes

    def touch(self, key: K) -> None:
        """Make a key the most recently used."""
        self._items.move_to_end(key)

    def lease(self, keys: Collection[K]) -> bool:
        """Lease all of the keys, or none of them if one is absent."""
        if any(key not in self._items for key in keys):
            return False
        for key in keys:
            self._items[key].leases += 1
            self._items.move_to_end(key)
        return True

    def release(self, keys: Iterable[K]) -> None:
        """End one lease of each key."""
        for key in keys:
            item = self._items[key]
            assert item.leases > 0, key
            item.leases -= 1

    def pin(self, key: K) -> None:
        """Keep a key for good; idempotent."""
        assert key in self._items, key
        if key not in self._pinned:
            self._pinned[key] = None
            self._keep(key, self._items[key].nbytes)

    def unpin(self, key: K) -> None:
        """Let a key be evicted again; idempotent."""
        if key in self._pinned:
            del self._pinned[key]
            self._keep(key, -self._items[key].nbytes)

    def victims(self, spare: Collection[K] = ()) -> Iterator[K]:
        """The keys that may be evicted now, longest unused first, without those to `spare`."""
        for key, item in self._items.items():
            if not item.leases and key not in self._pinned and key not in spare:
                yield key

    def leased(self, spare: Collection[K] = ()) -> Iterator[K]:
        """The keys that only a lease keeps, longest unused first, without those to `spare`."""
        for key, item in self._items.items():
            if item.leases and key not in self._pinned and key not in spare:
                yield key

    def room(self, nbytes: int, spare: Collection[K] = ()) -> tuple[K, ...] | None:
        """The fewest longest-unused keys whose eviction frees `nbytes`; None if even all of them are too few."""
        free = self.budget - self.used
        gone: list[K] = []
        for key in self.victims(spare):
            if free >= nbytes:
                break
            gone.append(key)
            free += self._items[key].nbytes
        return tuple(gone) if free >= nbytes else None

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        held = sum(item.nbytes for item in self._items.values())
        owned: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for key, item in self._items.items():
            owned[self.owner(key)] += item.nbytes
            kept[self.owner(key)] += item.nbytes * (key in self._pinned)
        faults = {
            f"used is {self.used}, the entries hold {held}": self.used != held,
            f"{self.bytes_in} bytes in, {self.bytes_out} out, {held} held": self.bytes_in != self.bytes_out + held,
            f"{held} bytes held over a budget of {self.budget}": held > self.budget,
            "a lease count is negative": any(item.leases < 0 for item in self._items.values()),
            "the bytes by owner are wrong": +owned != self._held,
            "a pinned key is absent": not self._pinned.keys() <= self._items.keys(),
            "the pinned bytes are wrong": +kept != self._kept or self.pinned_bytes != kept.total(),
        }
        return tuple(text for text, broken in faults.items() if broken)

    def _keep(self, key: K, nbytes: int) -> None:
        owner = self.owner(key)
        self.pinned_bytes += nbytes
        self._kept[owner] += nbytes
        if not self._kept[owner]:
            del self._kept[owner]
