"""Numbers that are not counted here but read, at the moment of a scrape, from the one who owns them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

TIERS = ("device", "host", "disk")  # highest first; what is in none of them is fetched from the source
SOURCE = "source"


@dataclass(frozen=True)
class Seen:
    """What a gateway sees around it at one moment."""

    warm_engines: int  # alive, every pin in place
    cold_engines: int  # alive, but still warming
    gateways: int  # this one included
    registry_age_s: float  # since the registry was last read
    registry_revision: int
    quarantined: int  # versions whose bytes are lost or wrong


@dataclass(frozen=True)
class CacheCounts:
    """The cache's own numbers at one moment, by tier: totals since the start, and what is held now.

    `found` counts the packages that were asked for by the tier that held them, `source` being none of them.
    """

    evictions: Mapping[str, int]
    loaded_bytes: Mapping[str, int]
    resident_bytes: Mapping[str, int]
    load_failures: int
    load_seconds: Mapping[str, float]
    found: Mapping[str, int]
    tier_loads: Mapping[str, int]
    budget_bytes: Mapping[str, int]
    entries: Mapping[str, int]
    pins: Mapping[str, int]
    pinned_bytes: Mapping[str, int]
    leases: Mapping[str, int]
    bad_copies: int  # local copies that were not what their digest says, and were dropped
    pins_refused: int  # pins that did not fit, now


class SeenReading(Collector):
    """The metrics of a `Seen`."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not look yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family per field."""
        seen = self._look()
        engines = {"warm": seen.warm_engines, "cold": seen.cold_engines}
        yield _gauges("chorus_engines", "Engines that answer, by whether every pin is in place.", "state", engines)
        for name, told, value in (
            ("chorus_gateways", "Gateways that answer.", seen.gateways),
            ("chorus_registry_age_seconds", "Time since the registry was last read.", seen.registry_age_s),
            ("chorus_registry_revision", "Revision of the registry that requests see.", seen.registry_revision),
            ("chorus_quarantined_versions", "Versions whose bytes are lost or wrong.", seen.quarantined),
        ):
            yield GaugeMetricFamily(name, told, value=value)


class WatchReading(Collector):
    """What a watching process counted, by what became of a package."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not look yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family."""
        told = "Packages found in the watched folder: published, unchanged or refused."
        yield _totals("chorus_watch_files", told, "outcome", self._counts())


class CacheReading(Collector):
    """The metrics of a `CacheCounts`."""

    def __init__(self, read: Callable[[], CacheCounts]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the cache, which may not exist yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One family per field."""
        counts = self._read()
        hits = {tier: counts.found.get(tier, 0) for tier in TIERS}
        misses, below = dict[str, int](), counts.found.get(SOURCE, 0)
        for tier in reversed(TIERS):
            misses[tier] = below
            below += hits[tier]
        for name, told, totals in (
            ("chorus_cache_hits", "Packages asked for that the tier held.", hits),
            ("chorus_cache_misses", "Packages asked for that neither the tier nor a higher one held.", misses),
            ("chorus_cache_evictions", "Packages evicted.", counts.evictions),
            (
                "chorus_cache_loads",
                "Loads into the tier that ended well.",
                counts.tier_loads,
            ),
            ("chorus_cache_load_seconds", "Time spent in loads into the tier.", counts.load_seconds),
            ("chorus_cache_loaded_bytes", "Bytes brought into the tier.", counts.loaded_bytes),
        ):
            yield _totals(name, told, "tier", totals)
        yield CounterMetricFamily("chorus_cache_load_failures", "Loads that failed.", value=counts.load_failures)
        yield CounterMetricFamily("chorus_cache_bad_copies", "Damaged local copies dropped.", value=counts.bad_copies)
        for name, told, held in (
            ("chorus_resident_bytes", "Bytes that the tier holds.", counts.resident_bytes),
            ("chorus_budget_bytes", "Bytes that the tier may hold.", counts.budget_bytes),
            ("chorus_resident_packages", "Packages whose highest tier this is.", counts.entries),
            ("chorus_pinned_packages", "Those of them that are pinned.", counts.pins),
            ("chorus_pinned_bytes", "Bytes of the pinned ones.", counts.pinned_bytes),
            ("chorus_leases", "Leases on packages of the tier.", counts.leases),
        ):
            yield _gauges(name, told, "tier", held)
        yield GaugeMetricFamily("chorus_pins_refused", "Pins that do not fit.", value=counts.pins_refused)


def _totals(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, told, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _gauges(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
