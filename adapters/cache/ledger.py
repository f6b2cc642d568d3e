"""What the cache remembers and tells of its entries: sizes, uses and loads, as plain numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from adapters.cache.admission import Size
from adapters.cache.rooms import Key
from adapters.errors import AdapterError
from adapters.refs import AdapterRef

TIERS = ("device", "host", "disk")  # highest first
SOURCE = "source"  # what is in no tier comes from there


@dataclass(frozen=True, slots=True)
class Held:
    """One entry of the cache; `tier` is the highest that holds it, `nbytes` its size there."""

    ref: AdapterRef
    tier: str
    nbytes: int
    leases: int
    pinned: bool
    hits: int
    loads: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the start; a hit or miss is one entry of one request at its first ask."""

    hits: int
    misses: int
    loads: int
    load_failures: int
    evictions: Mapping[str, int]  # tier -> entries
    bytes_loaded: Mapping[str, int]  # tier -> bytes that came in
    load_seconds: Mapping[str, float]  # tier -> seconds spent: "disk" fetch, "host" read and fold, "device" copy
    found: Mapping[str, int]  # tier, or "source" for none -> packages that were there when they were asked for
    tier_loads: Mapping[str, int]  # tier -> entries that came in
    bad_copies: int  # files of the disk tier that had other bytes when they were used

    def flat(self) -> dict[str, int]:
        """The whole numbers under one name each: `hits`, `evictions_device`, `bytes_loaded_host`, ..."""
        numbers = {name: getattr(self, name) for name in ("hits", "misses", "loads", "load_failures")}
        for name in ("evictions", "bytes_loaded"):
            numbers |= {f"{name}_{tier}": count for tier, count in getattr(self, name).items()}
        return numbers


@dataclass(slots=True)
class Fact:
    """What is known of one entry, whether it is in a tier or not."""

    ref: AdapterRef
    size: Size | None = None  # known after the first load
    hits: int = 0
    loads: int = 0


@dataclass(frozen=True, slots=True)
class _Failure:
    error: AdapterError
    until: float


@dataclass(slots=True)
class Ledger:
    """Facts by key, the failures of the last seconds, and the totals."""

    clock: Callable[[], float]
    patience: float  # seconds for which a failed load is not tried again
    hits: int = 0
    misses: int = 0
    loads: int = 0
    load_failures: int = 0
    copies: int = 0  # into the device
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*TIERS, SOURCE), 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TIERS, 0.0))
    facts: dict[Key, Fact] = field(default_factory=dict)
    _failures: dict[Key, _Failure] = field(default_factory=dict)

    def fact(self, ref: AdapterRef) -> Fact:
        """The fact of an entry, made when it is first asked for."""
        return self.facts.setdefault(ref.key, Fact(ref))

    def size(self, key: Key) -> Size | None:
        """Home and bytes, if it was ever loaded."""
        known = self.facts.get(key)
        return None if known is None else known.size

    def failed(self, ref: AdapterRef, error: AdapterError) -> None:
        """Remember a failed load for a while, without the frames in which it happened: they hold the package."""
        self.load_failures += 1
        self._expire()
        self._failures[ref.key] = _Failure(_bare(error), self.clock() + self.patience)

    def failure(self, key: Key) -> AdapterError | None:
        """The error of a load that failed a short while ago."""
        known = self._failures.get(key)
        if known is None:
            return None
        if self.clock() >= known.until:
            del self._failures[key]
            return None
        return known.error

    def counted(self, found: Mapping[Key, str], keys: frozenset[Key]) -> None:
        """Book a lease on `keys`: those of `found` were misses already, the others are hits."""
        for key in keys - found.keys():
            self.hits += 1
            self.facts[key].hits += 1
            size = self.facts[key].size
            assert size is not None, key
            self.found[size.home] += 1

    def prune(self, keep: Callable[[Fact], bool], limit: int) -> None:
        """Forget what no tier holds, once more than `limit` facts are known."""
        self._expire()
        if len(self.facts) > limit:
            self.facts = {key: known for key, known in self.facts.items() if keep(known)}

    def counters(
        self, evictions: Mapping[str, int], bytes_loaded: Mapping[str, int], fetched: int, bad_copies: int
    ) -> Counters:
        """The totals, as a frozen value."""
        return Counters(
            self.hits,
            self.misses,
            self.loads,
            self.load_failures,
            evictions,
            bytes_loaded,
            dict(self.seconds),
            dict(self.found),
            {"device": self.copies, "host": self.loads, "disk": fetched},
            bad_copies,
        )

    def _expire(self) -> None:
        now = self.clock()
        self._failures = {key: known for key, known in self._failures.items() if now < known.until}


def _bare(error: AdapterError) -> AdapterError:
    """An error and all that led to it, each without its traceback."""
    chain: list[BaseException] = [error]
    for one in chain:
        one.__traceback__ = None
        chain += [led for led in (one.__cause__, one.__context__) if led is not None and led not in chain]
    return error
