"""Who gets room next: requests for sets of entries, tenants by turns and each its own in order, all or nothing.

A request that misses becomes a `Want`. When its sizes are known and room can be made, all of its members are reserved
at once (it is *admitted*) and stay protected until the first lease of the set, or for a short while after the last of
them is there. So two sets that each fit alone take turns instead of evicting one another's halves.

The first want that has to wait names the leased entries it needs: these are *condemned*, that is they take no new
lease and go when the last one ends. Later wants that fit may overtake it, a limited number of times. Hence every want
that can fit at all is admitted after finitely many leases. What a tenant's own ceiling holds up, or what it protects
already, is its own affair: its further wants wait, and nobody else's do.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

from adapters.cache.host import too_large
from adapters.cache.lru import Lru
from adapters.cache.rooms import Key, Rooms
from adapters.cache.turns import Turns
from adapters.cache.victims import Choice, Draft, choose
from adapters.errors import OutOfRoom
from adapters.refs import AdapterRef

OVERTAKES = 16  # how often a want may be passed by before all others wait for it
WINDOW = 8  # how many waiting wants one pass looks behind
FORGOTTEN = 3  # times the protection: how long a want waits for room without being asked for again


class Size(NamedTuple):
    """Where an entry is used, and how many bytes it takes there."""

    home: str  # "device" or "host"
    nbytes: int


class Home(Protocol):
    """What admission needs of a tier in which entries are leased."""

    lru: Lru[Key]
    rooms: Rooms

    def get(self, key: Key) -> object | None:
        """What is ready for a lease."""

    def draft(self) -> Draft:
        """A supposition that starts from what is here now."""
        ...

    def bare(self) -> Draft:
        """A supposition that starts from the pinned entries only."""
        ...

    def reserve(self, key: Key, nbytes: int) -> None:
        """Set room aside."""

    def evict(self, key: Key) -> None:
        """Give an entry, or a reservation, up."""


@dataclass(eq=False, slots=True)
class Want:
    """A set of entries that somebody waits for; `missed` says in which tier each absent one was found."""

    refs: tuple[AdapterRef, ...]
    missed: Mapping[Key, str]
    tenants: list[str] = field(default_factory=list)  # on whose behalf
    keys: frozenset[Key] = field(init=False)
    admitted: bool = False
    overtaken: int = 0
    asked: float = 0.0  # when it was asked for last
    expires: float | None = None  # set when all members are there

    def __post_init__(self) -> None:
        self.keys = frozenset(ref.key for ref in self.refs)
        self.tenants = self.tenants or [self.refs[0].tenant]


@dataclass(slots=True)
class _Pass:
    """What one look along the line found out."""

    passed: list[Want] = field(default_factory=list)  # have to wait for others' leases
    stuck: set[str] = field(default_factory=set)  # tenants that have to wait for themselves
    condemned: set[Key] = field(default_factory=set)
    refused: bool = False

    @property
    def over(self) -> bool:
        """Whether nobody may overtake any further."""
        return len(self.passed) > WINDOW or any(want.overtaken >= OVERTAKES for want in self.passed)


class Admission:
    """The line of wants before the homes. Not locked: its owner is `TieredCache`, which is."""

    def __init__(
        self,
        homes: Mapping[str, Home],
        size_of: Callable[[Key], Size | None],
        clock: Callable[[], float],
        hold: float,
        ahead: float = 1.0,  # of a tier: what a tenant may have brought in that it did not lease yet, beside one want
        *,
        ref_of: Callable[[Key], AdapterRef],
        lift: Callable[[Key], None],  # take what a pinned entry holds along: it has to come back whatever happens
    ) -> None:
        self.wants: dict[frozenset[Key], Want] = {}  # in order of arrival
        self.condemned: frozenset[Key] = frozenset()
        self.turns = Turns()
        self._homes = homes
        self._size_of = size_of
        self._clock = clock
        self._hold = hold
        self._part = ahead
        self._ref_of = ref_of
        self._lift = lift

    @property
    def protected(self) -> set[Key]:
        """The members of all admitted wants: not to be evicted."""
        return set(chain.from_iterable(want.keys for want in self.wants.values() if want.admitted))

    @property
    def waiting(self) -> set[str]:
        """The tenants that want something."""
        return set(chain.from_iterable(want.tenants for want in self.wants.values()))

    def wanted(self, key: Key) -> bool:
        """Whether anybody waits for a key."""
        return any(key in want.keys for want in self.wants.values())

    def line(self) -> list[Want]:
        """The wants, each tenant's own in order of arrival, the tenants by turns."""
        if len(self.wants) < 2:
            return list(self.wants.values())
        return self.turns.order(self.wants.values(), self._nbytes)

    def ask(self, want: Want) -> None:
        """Stand in line; the same set again stands where it stood, on behalf of both."""
        waiting = self.waiting
        known = self.wants.setdefault(want.keys, want)
        known.asked = self._clock()
        for tenant in want.tenants:
            if tenant not in waiting:
                self.turns.lift(tenant)
            if tenant not in known.tenants:
                known.tenants.append(tenant)

    def fulfil(self, leased: Collection[Key]) -> list[Want]:
        """Take the wants out of the line that a lease on these keys serves."""
        served = [want for want in self.wants.values() if want.keys.issubset(leased)]
        for want in served:
            del self.wants[want.keys]
        return served

    def drop(self, key: Key) -> None:
        """Take every want out of the line that holds a key (it can not be loaded), and free what only they reserved."""
        for want in [want for want in self.wants.values() if key in want.keys]:
            self._forget(want)

    def next_expiry(self) -> float | None:
        """When the next protection ends that a waiting want may wait for, or a want that nobody asks for any more."""
        if all(want.admitted for want in self.wants.values()):
            return None
        ends = (want.expires if want.admitted else want.asked + FORGOTTEN * self._hold for want in self.wants.values())
        return min((end for end in ends if end is not None), default=None)

    def obstacle(self, keys: Iterable[Key], what: str) -> OutOfRoom | None:
        """Why these can never be leased together, as far as their sizes are known."""
        for name, sizes in self._by_home(keys).items():
            home = self._homes[name]
            over = home.rooms.over(sizes)
            if over is not None:
                return OutOfRoom(f"{what}: in the {name} tier, {over}")
            loose = [nbytes for key, nbytes in sizes.items() if key not in home.lru.pinned]
            if not home.bare().fits(loose):
                return too_large(what, sum(sizes.values()), name, home.lru)
        return None

    def admit(self) -> bool:
        """One pass over the line; True where others should look again.

        That is, if a want left the line because it can never be served, or if what was condemned takes leases again.
        """
        self._refresh()
        found, before = _Pass(), self.condemned
        for want in self.line():
            if found.over:
                break
            if want.admitted or any(self._size_of(key) is None for key in want.keys):
                continue
            if self.obstacle(want.keys, "these") is not None:
                self._forget(want)
                found.refused = True
            elif not found.stuck.issuperset(want.tenants):
                self._try(want, found)
        for tenant in found.stuck:
            self.turns.lift(tenant)
        self.condemned = frozenset(found.condemned)
        self._refresh()
        return found.refused or any(self._there(key) for key in before - self.condemned)

    def _try(self, want: Want, found: _Pass) -> None:
        """Reserve every member, or none, and note who has to wait for whom."""
        protected = self.protected
        if self._ahead(want, protected):
            found.stuck.update(want.tenants)
            return
        homes = [(self._homes[name], sizes) for name, sizes in self._by_home(want.keys).items()]
        choices = [choose(home, sizes, protected) for home, sizes in homes]
        if all(choice.fits for choice in choices):
            self._place(want, homes, choices)
            for other in found.passed:
                other.overtaken += 1
            return
        conflict: set[Key] = set()
        for (home, sizes), choice in zip(homes, choices, strict=True):
            if not choice.fits:
                past = choose(home, sizes, protected, past_leases=True)
                conflict |= {key for key in (*past.gone, *(past.moved if past.fits else ())) if home.lru.leases(key)}
        if any(choice.full for choice in choices):
            found.stuck.update(want.tenants)
            found.condemned |= conflict
            return
        if not found.passed:
            found.condemned |= conflict
        found.passed.append(want)

    def _place(self, want: Want, homes: list[tuple[Home, dict[Key, int]]], choices: list[Choice]) -> None:
        want.admitted = True
        for (home, sizes), choice in zip(homes, choices, strict=True):
            coming = {**sizes, **{key: home.lru.nbytes(key) for key in choice.moved}}
            pinned = [key for key in choice.moved if key in home.lru.pinned]
            for key in pinned:
                self._lift(key)
                home.lru.unpin(key)
            for key in (*choice.gone, *choice.moved):
                home.evict(key)
            for key, nbytes in sorted(coming.items(), key=lambda item: -item[1]):
                if key not in home.lru:
                    home.reserve(key, nbytes)
            for key in pinned:
                home.lru.pin(key)
            for key in choice.moved:
                self._bring_back(key)

    def _bring_back(self, key: Key) -> None:
        """What was moved has its room already, and is loaded like a want that was admitted."""
        ref = self._ref_of(key)
        known = self.wants.setdefault(frozenset((key,)), Want((ref,), {}))
        known.admitted, known.expires = True, None

    def _ahead(self, want: Want, protected: Collection[Key]) -> bool:
        """Whether the tenants of a want have enough brought in that they did not lease yet."""
        if self._part >= 1.0:
            return False
        own = [other for other in self.wants.values() if other.admitted and set(other.tenants) & set(want.tenants)]
        kept = set(chain.from_iterable(other.keys for other in own)) & set(protected)
        for name, sizes in self._by_home(kept | want.keys).items():
            if own and sum(sizes.values()) > self._part * self._homes[name].lru.budget:
                return True
        return False

    def _nbytes(self, want: Want) -> int | None:
        sizes = [self._size_of(key) for key in want.keys]
        known = [size.nbytes for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def _by_home(self, keys: Iterable[Key]) -> dict[str, dict[Key, int]]:
        sizes: dict[str, dict[Key, int]] = {}
        for key in keys:
            size = self._size_of(key)
            if size is not None:
                sizes.setdefault(size.home, {})[key] = size.nbytes
        return sizes

    def _there(self, key: Key) -> bool:
        size = self._size_of(key)
        return size is not None and self._homes[size.home].get(key) is not None

    def _refresh(self) -> None:
        """Start the protection of wants whose members are all there, and end what has run out or nobody asks for."""
        now = self._clock()
        for want in tuple(self.wants.values()):
            abandoned = not want.admitted and now >= want.asked + FORGOTTEN * self._hold
            if abandoned or (want.expires is not None and now >= want.expires):
                self._forget(want)
            elif want.admitted and want.expires is None and all(self._there(key) for key in want.keys):
                want.expires = now + self._hold

    def _forget(self, want: Want) -> None:
        del self.wants[want.keys]
        protected = self.protected
        for key in want.keys - protected:
            size = self._size_of(key)
            if want.admitted and size is not None and key in self._homes[size.home].lru and not self._there(key):
                self._homes[size.home].rooms.unpin(key)  # it was pinned, moved, and could not be written again
                self._homes[size.home].evict(key)
