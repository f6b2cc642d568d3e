"""What the cache's door and its loader share: the tiers, the line, the ledger, and the one lock over them.

Every method expects the caller to hold `changed`, which is notified whenever somebody who waits should look again.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from adapters.cache.admission import Admission, Home
from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import Entry, HostTier
from adapters.cache.ledger import SOURCE, Counters, Fact, Held, Ledger
from adapters.cache.rooms import Key, Room
from adapters.errors import AdapterError, LoadFailed, OutOfRoom
from adapters.refs import AdapterRef
from adapters.weights import Adapter, Resident

SPARE_FACTS = 4096  # entries in no tier that are remembered before the oldest knowledge is dropped


class Books:
    """Where every entry is, who waits, and what happened."""

    def __init__(
        self,
        disk: DiskTier,
        host: HostTier,
        device: DeviceTier,
        *,
        clock: Callable[[], float],
        hold: float,
        patience: float,
        loose: float = 0.0,
    ) -> None:
        self.disk = disk
        self.host = host
        self.device = device
        self.homes: dict[str, Home] = {"device": device, "host": host}
        self.changed = threading.Condition()
        self.clock = clock
        self.ledger = Ledger(clock, patience)
        self.admission = Admission(
            self.homes,
            self.ledger.size,
            clock,
            hold,
            1.0 - loose,
            ref_of=lambda key: self.ledger.facts[key].ref,
            lift=self._lift,
        )
        for home in self.homes.values():
            home.rooms.loose = int(loose * home.lru.budget)
        self.moving: dict[Key, Adapter] = {}  # pinned entries on their way from one slot to another
        self.retired: set[Key] = set()
        self.dropped: deque[str] = deque()  # digests whose files the loader removes
        self.closed = False

    def there(self, key: Key) -> bool:
        """Whether an entry is where it is used."""
        size = self.ledger.size(key)
        return size is not None and self.homes[size.home].get(key) is not None

    def ready(self, refs: Sequence[AdapterRef]) -> bool:
        """Whether a lease on all of these can be granted now."""
        return all(self.there(ref.key) and ref.key not in self.admission.condemned for ref in refs)

    def home(self, key: Key) -> Home:
        """The tier in which a loaded entry is leased and pinned."""
        size = self.ledger.size(key)
        assert size is not None, key
        return self.homes[size.home]

    def use(self, ref: AdapterRef) -> Resident | Entry:
        """The entry itself; it must be there."""
        held = self.device.get(ref.key) if self.home(ref.key) is self.device else self.host.get(ref.key)
        assert held is not None, ref
        return held

    def tier(self, ref: AdapterRef) -> str:
        """The highest tier that holds an entry; "disk" for all that has to be loaded."""
        return next((name for name, home in self.homes.items() if home.get(ref.key) is not None), "disk")

    def missed(self, ref: AdapterRef) -> str:
        """Count that an entry is asked for and not there; the tier in which it is found."""
        tier = self.tier(ref)
        self.ledger.misses += 1
        self.ledger.found[SOURCE if tier == "disk" and ref.digest not in self.disk else tier] += 1
        return tier

    def obstacle(self, refs: Sequence[AdapterRef]) -> AdapterError | None:
        """Why waiting for these is in vain, at least for now."""
        if self.closed:
            return LoadFailed("the cache is closed")
        for ref in refs:
            error = self.ledger.failure(ref.key)
            if error is not None:
                return error
        return self.admission.obstacle({ref.key for ref in refs}, names(refs))

    def leased(self, key: Key) -> bool:
        """Whether a lease on an entry is open."""
        return any(home.lru.leases(key) for home in self.homes.values())

    def pinned(self, key: Key) -> bool:
        """Whether an entry is pinned."""
        return any(key in home.lru.pinned for home in self.homes.values())

    def busy(self, key: Key) -> bool:
        """Whether somebody keeps an entry, or waits for it: it must stay."""
        return self.leased(key) or self.pinned(key) or self.admission.wanted(key)

    def pin(self, ref: AdapterRef, *, keep: bool = True) -> None:
        """Keep a loaded entry for good; raises `OutOfRoom` with the numbers. Without `keep` it is only asked."""
        home, needed = self.home(ref.key), self.room([ref])[0]
        free = home.rooms.free_for_pins
        if needed > free:
            raise OutOfRoom(f"{ref}: {needed} bytes to pin, {free} of {home.lru.budget} are free for pins")
        if keep:
            home.lru.pin(ref.key)
            home.rooms.settle()
            self.retired.discard(ref.key)  # the same bytes were published again

    def room(self, refs: Sequence[AdapterRef]) -> tuple[int, int]:
        """Bytes that pinning these needs, and bytes that may still be pinned: on the device, or on the host if that lacks."""
        numbers: dict[str, tuple[int, int]] = {}
        for name, home in self.homes.items():
            fresh = {ref.key for ref in refs if self.home(ref.key) is home and ref.key not in home.lru.pinned}
            sizes = [self.ledger.facts[key].size for key in fresh]
            numbers[name] = (sum(size.nbytes for size in sizes if size is not None), home.rooms.free_for_pins)
        lacking = [pair for pair in numbers.values() if pair[0] > pair[1]]
        needing = [pair for pair in numbers.values() if pair[0]]
        return (*lacking, *needing, numbers["device"])[0]

    def share(self, device: Mapping[str, Room], host: Mapping[str, Room], weights: Mapping[str, float]) -> None:
        """New floors, ceilings and turns; what may leave a tenant's lowered ceiling does."""
        protected = self.admission.protected
        for home, rooms in ((self.device, device), (self.host, host)):
            home.rooms.share(rooms)
            self._trim(home, rooms, protected)
            home.rooms.share(rooms)
        self.admission.turns.share(weights)

    def leave(self, key: Key) -> bool:
        """Take a free entry out of host and device; False if it is in neither."""
        held = [home for home in self.homes.values() if key in home.lru]
        for home in held:
            home.evict(key)
        return bool(held)

    def sweep(self) -> None:
        """Take out what is retired and free; its file goes with it, unless another tenant has the same."""
        for key in [key for key in self.retired if not self.busy(key)]:
            self.leave(key)
            self.retired.discard(key)
            self.ledger.facts.pop(key, None)
            if not any(other[1] == key[1] for other in self.ledger.facts):
                self.dropped.append(key[1])

    def prune(self) -> None:
        """Keep the ledger bounded: forget entries that are nowhere."""
        held = len(self.host.lru) + len(self.device.lru) + len(self.disk)
        self.ledger.prune(self._somewhere, SPARE_FACTS + 2 * held)

    def held(self, fact: Fact) -> Held | None:
        """An entry as residency shows it; None if no tier holds it."""
        key, tier = fact.ref.key, self.tier(fact.ref)
        nbytes = self.disk.nbytes(fact.ref.digest) if tier == "disk" else self.homes[tier].lru.nbytes(key)
        if nbytes is None:
            return None
        leases = max(home.lru.leases(key) for home in self.homes.values())
        return Held(fact.ref, tier, nbytes, leases, self.pinned(key), fact.hits, fact.loads)

    def counters(self) -> Counters:
        """The totals of all tiers."""
        evictions = {"device": self.device.evictions, "host": self.host.evictions, "disk": self.disk.evictions}
        loaded = {
            "device": self.device.bytes_loaded,
            "host": self.host.bytes_loaded,
            "disk": self.disk.bytes_fetched,
        }
        return self.ledger.counters(evictions, loaded, self.disk.fetched, self.disk.damaged)

    def check(self) -> tuple[str, ...]:
        """Every breach of the books of host and device, and between them and the line."""
        faults = [*self.host.check(), *self.device.check()]
        protected = self.admission.protected
        faults += [f"{key} moves, and nobody awaits it" for key in self.moving.keys() - protected]
        for name, home in self.homes.items():
            for key in home.lru:
                size = self.ledger.size(key)
                if size is None or (home.lru.leases(key) and size.home != name):
                    faults.append(f"{key} is in the {name} tier, where it has no home")
                if home.get(key) is None and key not in protected:
                    faults.append(f"room in the {name} tier is reserved for {key}, which nobody awaits")
        return tuple(faults)

    def _trim(self, home: Home, tenants: Collection[str], protected: Collection[Key]) -> None:
        over = {t: most for t in tenants if (most := home.rooms.ceiling(t)) is not None and home.lru.held(t) > most}
        for key in list(home.lru.victims(protected)) if over else ():
            if key[0] in over and home.lru.held(key[0]) > over[key[0]]:
                home.evict(key)

    def _lift(self, key: Key) -> None:
        held = self.device.copy(key)
        if held is not None:
            self.moving[key] = held

    def _somewhere(self, fact: Fact) -> bool:
        key = fact.ref.key
        return (
            key in self.host.lru
            or key in self.device.lru
            or fact.ref.digest in self.disk
            or key in self.retired
            or self.admission.wanted(key)
        )


def names(refs: Sequence[AdapterRef]) -> str:
    """References for an error message."""
    return " + ".join(str(ref) for ref in refs)
