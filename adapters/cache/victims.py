"""Who leaves a tier so that a set of entries can stand in it together: the longest unused that may be taken.

A load takes what it needs from its own tenant, or from tenants above their floor; where its tenant is at its ceiling,
from that tenant alone. What a floor or a pin keeps may have to move where it splits the room, so that whoever's bytes
there is room for can be served. Nothing is changed here: the answer is a list of keys.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from adapters.cache.lru import Lru
from adapters.cache.rooms import Key, Rooms, tenant_of


class Draft(Protocol):
    """A supposition: would it fit."""

    def give(self, key: Key) -> None:
        """Suppose that a key were evicted."""

    def far(self, keys: Iterable[Key]) -> list[Key]:
        """These keys, those first whose going is most likely to join what is free."""
        ...

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether these would fit together."""
        ...


class Tier(Protocol):
    """What a choice needs to know of a tier."""

    @property
    def lru(self) -> Lru[Key]:
        """Who holds what, and who was used longest ago."""
        ...

    @property
    def rooms(self) -> Rooms:
        """What each tenant may keep and take."""
        ...

    def draft(self) -> Draft:
        """A supposition that starts from what is here now."""
        ...


MOVES = 16  # kept entries that are moved one by one until a load fits; beyond that their number is doubled each time


@dataclass(frozen=True, slots=True)
class Choice:
    """The keys to evict, and those to bring back elsewhere at once.

    `fits` is False where even all that may go are too few, for `full` tenants at their ceiling.
    """

    gone: tuple[Key, ...]
    fits: bool
    full: frozenset[str] = frozenset()
    moved: tuple[Key, ...] = ()


def choose(tier: Tier, sizes: Mapping[Key, int], protected: Collection[Key], *, past_leases: bool = False) -> Choice:
    """What must go so that all of `sizes` stand in the tier together; those that are there already stay if they can.

    The set's own members come last: they are moved only where they split the room that the others need. With
    `past_leases` entries that only a lease keeps are taken (pinned ones moved), too, when nothing else is left.
    """
    return _Chooser(tier, sizes, protected, past_leases).choose()


class _Chooser:
    """One supposition on its way to a choice."""

    def __init__(self, tier: Tier, sizes: Mapping[Key, int], protected: Collection[Key], past_leases: bool) -> None:
        self._lru, self._rooms, self._sizes = tier.lru, tier.rooms, sizes
        self._draft = tier.draft()
        self._protected, self._past_leases = protected, past_leases
        self._free = tier.lru.budget - tier.lru.used  # with what goes and moves
        self._missing = [nbytes for key, nbytes in sizes.items() if key not in tier.lru]
        self._comes: Counter[str] = Counter()
        for key, nbytes in sizes.items():
            if key not in tier.lru:
                self._comes[tenant_of(key)] += nbytes
        self._leaves: Counter[str] = Counter()
        self._gone: list[Key] = []
        self._moved: list[Key] = []

    def choose(self) -> Choice:
        full = {tenant for tenant in self._comes if not self._below_ceiling(tenant)}
        if not full:
            self._make_room()
        fits = not full and self._fits()
        return Choice(tuple(self._gone), fits, frozenset(full), tuple(self._moved))

    def _below_ceiling(self, tenant: str) -> bool:
        """Take from the tenant itself until it is not above its ceiling; whether that was possible."""
        ceiling = self._rooms.ceiling(tenant)
        if ceiling is None:
            return True
        above = self._lru.held(tenant) + self._comes[tenant] - ceiling
        for key in self._candidates() if above > 0 else ():
            if self._leaves[tenant] >= above:
                break
            if tenant_of(key) == tenant and key not in self._sizes:
                self._take(key)
        return self._leaves[tenant] >= above

    def _fits(self) -> bool:
        return sum(self._missing) <= self._free and self._draft.fits(self._missing)

    def _make_room(self) -> None:
        fits = self._fits()
        for key in self._candidates():
            if fits:
                return
            if self._may_go(key):
                self._take(key)
                fits = self._fits()
        if not fits and sum(self._missing) <= self._free:
            self._make_way()

    def _make_way(self) -> None:
        """There are bytes enough, but in pieces: have what is kept move, first of floors (the longest unused), then pins."""
        for count, key in enumerate((*self._candidates(), *self._draft.far(self._pins())), 1):
            self._draft.give(key)
            self._free += self._lru.nbytes(key)
            self._missing.append(self._lru.nbytes(key))
            self._moved.append(key)
            if (count <= MOVES or count.bit_count() == 1) and self._fits():
                return

    def _pins(self) -> Iterator[Key]:
        for key in self._lru.pinned:
            if key not in self._protected and (self._past_leases or not self._lru.leases(key)):
                yield key

    def _candidates(self) -> Iterator[Key]:
        others = self._lru.victims({*self._protected, *self._sizes})
        own = (key for key in self._lru.victims(self._protected) if key in self._sizes)
        leased = self._lru.leased(self._protected) if self._past_leases else ()
        taken = set(self._gone)
        return (key for key in chain(others, own, leased) if key not in taken)

    def _may_go(self, key: Key) -> bool:
        tenant = tenant_of(key)
        if tenant in self._comes or key in self._sizes:
            return True
        return self._lru.held(tenant) - self._leaves[tenant] - self._lru.nbytes(key) >= self._rooms.floor(tenant)

    def _take(self, key: Key) -> None:
        self._draft.give(key)
        self._free += self._lru.nbytes(key)
        self._gone.append(key)
        if key in self._sizes:  # it comes back, elsewhere
            self._missing.append(self._sizes[key])
        else:
            self._leaves[tenant_of(key)] += self._lru.nbytes(key)
