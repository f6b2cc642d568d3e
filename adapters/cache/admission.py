"""Who gets room next: requests for sets of entries, first come first served, each all or nothing.

A request that misses becomes a `Want`. When its sizes are known and room can be made, all of its members are reserved
at once (it is *admitted*) and stay protected until the first lease of the set, or for a short while after the last of
them is there. So two sets that each fit alone take turns instead of evicting one another's halves.

The first want that has to wait names the leased entries it needs: these are *condemned*, that is they take no new
lease and go when the last one ends. Later wants that fit may overtake it, a limited number of times. Hence every want
that can fit at all is admitted after finitely many leases.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, Protocol

from adapters.cache.host import Key, too_large
from adapters.cache.lru import Lru
from adapters.errors import OutOfRoom
from adapters.refs import AdapterRef

OVERTAKES = 16  # how often a want may be passed by before all others wait for it
WINDOW = 8  # how many waiting wants one pass looks behind


class Size(NamedTuple):
    """Where an entry is used, and how many bytes it takes there."""

    home: str  # "device" or "host"
    nbytes: int


class Draft(Protocol):
    """A supposition: would it fit."""

    def give(self, key: Key) -> None:
        """Suppose that a key were evicted."""

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether these would fit together."""
        ...


class Home(Protocol):
    """What admission needs of a tier in which entries are leased."""

    lru: Lru[Key]

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
    keys: frozenset[Key] = field(init=False)
    admitted: bool = False
    overtaken: int = 0
    expires: float | None = None  # set when all members are there

    def __post_init__(self) -> None:
        self.keys = frozenset(ref.key for ref in self.refs)


class Admission:
    """The line of wants before the homes. Not locked: its owner is `TieredCache`, which is."""

    def __init__(
        self,
        homes: Mapping[str, Home],
        size_of: Callable[[Key], Size | None],
        clock: Callable[[], float],
        hold: float,
    ) -> None:
        self.wants: dict[frozenset[Key], Want] = {}  # in order of arrival
        self.condemned: frozenset[Key] = frozenset()
        self._homes = homes
        self._size_of = size_of
        self._clock = clock
        self._hold = hold

    @property
    def protected(self) -> set[Key]:
        """The members of all admitted wants: not to be evicted."""
        return set(chain.from_iterable(want.keys for want in self.wants.values() if want.admitted))

    def wanted(self, key: Key) -> bool:
        """Whether anybody waits for a key."""
        return any(key in want.keys for want in self.wants.values())

    def ask(self, want: Want) -> None:
        """Stand in line; the same set again stands where it stood."""
        self.wants.setdefault(want.keys, want)

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
        """When the next protection ends that a waiting want may wait for."""
        if all(want.admitted for want in self.wants.values()):
            return None
        return min((want.expires for want in self.wants.values() if want.expires is not None), default=None)

    def obstacle(self, keys: Iterable[Key], what: str) -> OutOfRoom | None:
        """Why these can never be leased together, as far as their sizes are known."""
        for name, sizes in self._by_home(keys).items():
            home = self._homes[name]
            loose = [nbytes for key, nbytes in sizes.items() if key not in home.lru.pinned]
            if not home.bare().fits(loose):
                return too_large(what, sum(sizes.values()), name, home.lru)
        return None

    def admit(self) -> bool:
        """One pass over the line; True if a want left it because it can never be served."""
        self._refresh()
        condemned: frozenset[Key] = frozenset()
        passed: list[Want] = []
        refused = False
        for want in tuple(self.wants.values()):
            if want.admitted or any(self._size_of(key) is None for key in want.keys):
                continue
            if self.obstacle(want.keys, "these") is not None:
                self._forget(want)
                refused = True
                continue
            conflict = self._place(want)
            if conflict is None:
                for other in passed:
                    other.overtaken += 1
            else:
                condemned = condemned if passed else conflict
                passed.append(want)
            if len(passed) > WINDOW or any(other.overtaken >= OVERTAKES for other in passed):
                break
        self.condemned = condemned
        self._refresh()
        return refused

    def _place(self, want: Want) -> frozenset[Key] | None:
        """Reserve every member, or none; then the answer is the leased entries that must go first."""
        protected = self.protected
        going: list[tuple[Home, Key]] = []
        conflict: set[Key] = set()
        short = False
        for name, sizes in self._by_home(want.keys).items():
            home = self._homes[name]
            gone = _choose(home, sizes, protected, past_leases=False)
            if gone is not None:
                going += [(home, key) for key in gone]
                continue
            short = True
            gone = _choose(home, sizes, protected, past_leases=True)
            conflict |= {key for key in gone or () if home.lru.leases(key)}
        if short:
            return frozenset(conflict)
        for home, key in going:
            home.evict(key)
        for name, sizes in self._by_home(want.keys).items():
            for key, nbytes in sorted(sizes.items(), key=lambda item: -item[1]):
                if key not in self._homes[name].lru:
                    self._homes[name].reserve(key, nbytes)
        want.admitted = True
        return None

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
        """Start the protection of wants whose members are all there, and end what has run out."""
        now = self._clock()
        for want in tuple(self.wants.values()):
            if want.expires is not None and now >= want.expires:
                self._forget(want)
            elif want.admitted and want.expires is None and all(self._there(key) for key in want.keys):
                want.expires = now + self._hold

    def _forget(self, want: Want) -> None:
        del self.wants[want.keys]
        protected = self.protected
        for key in want.keys - protected:
            size = self._size_of(key)
            if want.admitted and size is not None and key in self._homes[size.home].lru and not self._there(key):
                self._homes[size.home].evict(key)


def _choose(home: Home, sizes: Mapping[Key, int], protected: Collection[Key], *, past_leases: bool) -> list[Key] | None:
    """The keys to evict, longest unused first, so that all of `sizes` stand in `home` together; None if too few may go.

    The want's own members come last: they are moved only where they split the room that the others need.
    """
    draft = home.draft()
    gone: list[Key] = []
    missing = [nbytes for key, nbytes in sizes.items() if key not in home.lru]
    others = home.lru.victims({*protected, *sizes})
    own = (key for key in home.lru.victims(protected) if key in sizes)
    leased = home.lru.leased(protected) if past_leases else ()
    for key in chain(others, own, leased):
        if draft.fits(missing):
            break
        draft.give(key)
        gone.append(key)
        if key in sizes:
            missing.append(sizes[key])
    return gone if draft.fits(missing) else None
