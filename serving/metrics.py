"""What the service counts: one registry object per process, and one exposition for all processes.

A gateway and an engine each own a set of metrics. The gateway that is scraped renders its own, fetches the texts of
the others, and merges them with a `replica` label. Labels are bounded: never a tenant, an adapter or a request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TIERS = ("disk", "host", "device")


class GatewayMetrics:
    """What a gateway counts; `registry` is what `render` takes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make = self.registry
        self.requests = Counter(
            "chorus_http_requests_total", "Answered HTTP requests.", ("method", "route", "code"), registry=make
        )
        self.request_seconds = Histogram(
            "chorus_http_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, registry=make
        )
        self.in_flight = Gauge("chorus_http_requests_in_flight", "Requests being answered.", registry=make)
        self.refusals = Counter("chorus_refusals_total", "Refused requests, by code.", ("reason",), registry=make)
        self.rows = Counter("chorus_gateway_rows_total", "Rows handed to the engines.", registry=make)
        self.tokens = Counter("chorus_gateway_tokens_total", "Tokens of those rows.", registry=make)
        self.tokenize_seconds = Histogram(
            "chorus_tokenize_seconds", "Time to tokenize a request.", buckets=SECONDS, registry=make
        )
        self.calls = Counter("chorus_dispatch_calls_total", "Calls to engine replicas.", registry=make)
        self.retries = Counter(
            "chorus_dispatch_retries_total", "Rows sent again to another replica.", ("reason",), registry=make
        )
        self.cancelled = Counter("chorus_cancelled_rows_total", "Rows whose caller went away.", registry=make)
        self.publishes = Counter("chorus_publishes_total", "Uploads, by HTTP status.", ("code",), registry=make)

    def answered(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count one HTTP answer; `route` is the template (`/v1/adapters/{name}`), never the path."""
        self.requests.labels(method, route, str(code)).inc()
        self.request_seconds.labels(route).observe(seconds)


@dataclass(frozen=True)
class CacheCounts:
    """The cache's own numbers at one moment, by tier: totals since the start, and bytes held now."""

    evictions: Mapping[str, int]
    loaded_bytes: Mapping[str, int]
    resident_bytes: Mapping[str, int]
    hits: int
    misses: int
    loads: int
    load_failures: int
    load_seconds: Mapping[str, float]


class EngineMetrics:
    """What an engine counts; the cache's numbers are read from the cache when the registry is rendered."""

    def __init__(self, cache: Callable[[], CacheCounts]) -> None:
        self.registry = CollectorRegistry()
        make = self.registry
        self.batches = Counter("chorus_batches_total", "Forward passes.", registry=make)
        self.rows = Counter("chorus_rows_total", "Rows that went through a forward pass.", registry=make)
        self.tokens = Counter("chorus_tokens_total", "Tokens of those rows.", registry=make)
        self.batch_rows = Histogram("chorus_batch_rows", "Rows in a batch.", buckets=COUNTS, registry=make)
        self.batch_adapters = Histogram(
            "chorus_batch_adapters", "Distinct packages in a batch.", buckets=(0, *COUNTS), registry=make
        )
        self.batch_segments = Histogram(
            "chorus_batch_segments", "Distinct stacks in a batch.", buckets=COUNTS, registry=make
        )
        self.queue_seconds = Histogram("chorus_queue_seconds", "Time in the queue.", buckets=SECONDS, registry=make)
        self.forward_seconds = Histogram("chorus_forward_seconds", "Time of a step.", buckets=SECONDS, registry=make)
        self.found = Counter(
            "chorus_rows_packages_total",
            "Packages of rows, by the tier that held them at first ask.",
            ("tier",),
            registry=make,
        )
        self.refusals = Counter("chorus_engine_failures_total", "Rows refused.", ("reason",), registry=make)
        self.queued = Gauge("chorus_queued_rows", "Rows that wait.", registry=make)
        self.running = Gauge("chorus_running_rows", "Rows in the present batch.", registry=make)
        make.register(_CacheCollector(cache))

    def stepped(self, *, rows: int, tokens: int, adapters: int, stacks: int, seconds: float) -> None:
        """Count one forward pass: its rows, tokens, distinct packages and distinct stacks, and how long it took."""
        self.batches.inc()
        self.rows.inc(rows)
        self.tokens.inc(tokens)
        self.batch_rows.observe(rows)
        self.batch_adapters.observe(adapters)
        self.batch_segments.observe(stacks)
        self.forward_seconds.observe(seconds)


def render(registry: CollectorRegistry) -> str:
    """The registry as Prometheus text, without the creation times that no dashboard reads."""
    return generate_latest(_WithoutCreated(registry)).decode()


def merge(texts: Mapping[str, str]) -> str:
    """One exposition of many processes: each family once, each sample with the `replica` that it came from.

    Raises `ValueError` where two processes use one name for different kinds of metric.
    """
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            if merged.type != family.type:
                raise ValueError(f"{family.name} is a {merged.type} in one process and a {family.type} in another")
            for sample in family.samples:
                labels = {**sample.labels, "replica": replica}
                merged.add_sample(sample.name, labels, sample.value, sample.timestamp, sample.exemplar)
    return generate_latest(_Families(families.values())).decode()


class _CacheCollector(Collector):
    def __init__(self, read: Callable[[], CacheCounts]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # registering must not read the cache, which may not exist yet

    def collect(self) -> Iterator[Metric]:
        counts = self._read()
        yield _totals("chorus_cache_evictions", "Packages evicted, by tier.", counts.evictions)
        yield _totals("chorus_cache_loaded_bytes", "Bytes brought into a tier.", counts.loaded_bytes)
        yield _totals("chorus_cache_load_seconds", "Time spent in loads.", counts.load_seconds)
        for name, help_text, value in (
            ("chorus_cache_hits", "Packages asked for that were resident.", counts.hits),
            ("chorus_cache_misses", "Packages asked for that were not resident.", counts.misses),
            ("chorus_cache_loads", "Loads that ended well.", counts.loads),
            ("chorus_cache_load_failures", "Loads that failed.", counts.load_failures),
        ):
            yield CounterMetricFamily(name, help_text, value=value)
        resident = GaugeMetricFamily("chorus_resident_bytes", "Bytes held, by tier.", labels=("tier",))
        for tier, nbytes in counts.resident_bytes.items():
            resident.add_metric((tier,), nbytes)
        yield resident


def _totals(name: str, help_text: str, by_tier: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=("tier",))
    for tier, value in by_tier.items():
        family.add_metric((tier,), value)
    return family


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _WithoutCreated(Collector):
    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            kept = Metric(family.name, family.documentation, family.type)
            kept.samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
            yield kept
