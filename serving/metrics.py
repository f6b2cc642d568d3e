"""What the service counts: one registry object per process, rendered as Prometheus text.

A gateway and an engine each own a set of metrics. The gateway that is scraped renders its own, fetches the texts of
the others, and merges them (`serving.merging`). Labels are bounded: of tenants only so many are told apart
(`serving.bounded`), and there is never a label for an adapter or a request.
"""

from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.bounded import Bounded
from serving.readings import CacheCounts, CacheReading, Seen, SeenReading, WatchReading

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
FEW = (0, 1, 2, 3, 4, 6, 8, 12)
TENANTS = 100  # that are told apart
LIMITS = frozenset(
    {"rate_limited", "too_many_concurrent", "costs_too_much", "quota_exceeded", "overloaded", "overloaded_now"}
)
"""Codes of refusals by a quota or a full queue: the ones that are counted per tenant."""


class GatewayMetrics:
    """What a gateway counts; `registry` is what `render` takes. `tenants` are the most that are told apart."""

    def __init__(self, tenants: int = TENANTS) -> None:
        self.registry = CollectorRegistry()
        self.tenants = Bounded(tenants)
        self._of_requests()
        self._of_tenants()
        self._of_dispatch()
        self._of_control()
        ProcessCollector(namespace="chorus", registry=self.registry)

    def answered(self, method: str, route: str, code: int, seconds: float, tenant: str = "") -> None:
        """Count one HTTP answer; `route` is the template (`/v1/adapters/{name}`), never the path."""
        self.requests.labels(method, route, str(code)).inc()
        self.request_seconds.labels(route).observe(seconds)
        if tenant:
            self.tenant_requests.labels(self.tenants.label(tenant), _outcome(code)).inc()

    def refused(self, reason: str, tenant: str = "") -> None:
        """Count one refusal by its code, and per tenant where a quota or a full queue was in the way."""
        self.refusals.labels(reason).inc()
        if tenant and reason in LIMITS:
            self.tenant_refusals.labels(self.tenants.label(tenant), reason).inc()

    def sent(self, tenant: str, rows: int, tokens: int) -> None:
        """Count the rows of one request that go to the engines."""
        self.rows.inc(rows)
        self.tokens.inc(tokens)
        name = self.tenants.label(tenant)
        self.tenant_rows.labels(name).inc(rows)
        self.tenant_tokens.labels(name).inc(tokens)

    def see(self, look: Callable[[], Seen]) -> None:
        """From now on, `look` is asked whenever the registry is rendered. Called once."""
        self.registry.register(SeenReading(look))

    def watch(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """From now on, `counts` (by outcome) is asked whenever the registry is rendered. Called once."""
        self.registry.register(WatchReading(counts))

    def _of_requests(self) -> None:
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
        self.cancelled = Counter("chorus_cancelled_rows_total", "Rows whose caller went away.", registry=make)

    def _of_tenants(self) -> None:
        make = self.registry
        self.tenant_requests = Counter(
            "chorus_tenant_requests_total",
            "Answered requests of a tenant: answered, refused (4xx) or failed (5xx).",
            ("tenant", "outcome"),
            registry=make,
        )
        self.tenant_refusals = Counter(
            "chorus_tenant_refusals_total",
            "Requests of a tenant that a quota or a full queue refused.",
            ("tenant", "reason"),
            registry=make,
        )
        self.tenant_rows = Counter(
            "chorus_tenant_rows_total", "Rows of a tenant handed to the engines.", ("tenant",), registry=make
        )
        self.tenant_tokens = Counter("chorus_tenant_tokens_total", "Tokens of those rows.", ("tenant",), registry=make)

    def _of_dispatch(self) -> None:
        make = self.registry
        self.calls = Counter("chorus_dispatch_calls_total", "Calls to engine replicas.", registry=make)
        self.retries = Counter(
            "chorus_dispatch_retries_total", "Rows sent again to another replica.", ("reason",), registry=make
        )
        self.retries_denied = Counter(
            "chorus_dispatch_retries_denied_total", "Rows not sent again: the retry budget was spent.", registry=make
        )
        self.replicas_lost = Counter("chorus_replicas_lost_total", "Engine replicas that were lost.", registry=make)
        self.replicas_silent = Counter(
            "chorus_replicas_silent_total",
            "Replicas that a scrape has no text of: they gave none in time.",
            registry=make,
        )

    def _of_control(self) -> None:
        make = self.registry
        self.publishes = Counter("chorus_publishes_total", "Uploads, by HTTP status.", ("code",), registry=make)
        self.publish_seconds = Histogram(
            "chorus_publish_seconds", "Time of an upload, its check included.", buckets=SECONDS, registry=make
        )
        self.gates = Counter("chorus_gates_total", "Gated promotes: passed or failed.", ("outcome",), registry=make)
        for outcome in ("passed", "failed"):  # at 0: a series that is born at 1 has no increase that an alert could see
            self.gates.labels(outcome)


class EngineMetrics:
    """What an engine counts; the cache's numbers are read from the cache when the registry is rendered."""

    def __init__(self, cache: Callable[[], CacheCounts], tenants: int = TENANTS) -> None:
        self.registry = CollectorRegistry()
        self.tenants = Bounded(tenants)
        self._of_batches()
        self._of_the_queue()
        self.found = Counter(
            "chorus_rows_packages_total",
            "Packages of rows, by the tier that held them at first ask.",
            ("tier",),
            registry=self.registry,
        )
        self.refusals = Counter("chorus_engine_failures_total", "Rows refused.", ("reason",), registry=self.registry)
        ProcessCollector(namespace="chorus", registry=self.registry)
        self.registry.register(CacheReading(cache))

    def stepped(self, *, rows: int, tokens: int, adapters: int, stacks: int, seconds: float) -> None:
        """Count one forward pass: its rows, tokens, distinct packages and distinct stacks, and how long it took."""
        self.batches.inc()
        self.rows.inc(rows)
        self.tokens.inc(tokens)
        self.batch_rows.observe(rows)
        self.batch_tokens.observe(tokens)
        self.batch_adapters.observe(adapters)
        self.batch_segments.observe(stacks)
        self.forward_seconds.observe(seconds)

    def mixed(self, methods: Sequence[Collection[str]]) -> None:
        """Count the adapter methods of one forward pass: those of each row (none for the bare backbone)."""
        rows = Tally(method for row in methods for method in set(row))
        self.batch_methods.observe(len(rows))
        for method, count in rows.items():
            self.method_rows.labels(method).inc(count)

    def served(self, tenant: str, *, rows: int, cost: float, queue_s: float) -> None:
        """Count what a step did for one tenant: its rows, their cost, and the seconds that they waited together."""
        name = self.tenants.label(tenant)
        self.tenant_served.labels(name).inc(rows)
        self.tenant_cost.labels(name).inc(cost)
        self.tenant_queue_seconds.labels(name).inc(max(0.0, queue_s))  # a clock that went back ends no forward thread

    def _of_batches(self) -> None:
        make = self.registry
        self.batches = Counter("chorus_batches_total", "Forward passes.", registry=make)
        self.rows = Counter("chorus_rows_total", "Rows that went through a forward pass.", registry=make)
        self.tokens = Counter("chorus_tokens_total", "Tokens of those rows.", registry=make)
        self.batch_rows = Histogram("chorus_batch_rows", "Rows in a batch.", buckets=COUNTS, registry=make)
        self.batch_tokens = Histogram("chorus_batch_tokens", "Tokens in a batch.", buckets=TOKENS, registry=make)
        self.batch_adapters = Histogram(
            "chorus_batch_adapters", "Distinct packages in a batch.", buckets=(0, *COUNTS), registry=make
        )
        self.batch_segments = Histogram(
            "chorus_batch_segments", "Distinct stacks in a batch.", buckets=COUNTS, registry=make
        )
        self.batch_methods = Histogram(
            "chorus_batch_methods", "Distinct adapter methods in a batch.", buckets=FEW, registry=make
        )
        self.method_rows = Counter(
            "chorus_method_rows_total", "Rows that an adapter method took part in.", ("method",), registry=make
        )
        self.forward_seconds = Histogram("chorus_forward_seconds", "Time of a step.", buckets=SECONDS, registry=make)

    def _of_the_queue(self) -> None:
        make = self.registry
        self.queue_seconds = Histogram("chorus_queue_seconds", "Time in the queue.", buckets=SECONDS, registry=make)
        self.queued = Gauge("chorus_queued_rows", "Rows that wait.", registry=make)
        self.loading = Gauge("chorus_loading_rows", "Rows of those whose adapters are loaded.", registry=make)
        self.queued_cost = Gauge("chorus_queued_cost", "Their cost: tokens x layers.", registry=make)
        self.cost_rate = Gauge("chorus_cost_per_second", "Cost that is served in a second of work.", registry=make)
        self.running = Gauge("chorus_running_rows", "Rows in the present batch.", registry=make)
        self.tenant_served = Counter(
            "chorus_tenant_served_rows_total", "Rows of a tenant that ran.", ("tenant",), registry=make
        )
        self.tenant_cost = Counter(
            "chorus_tenant_served_cost_total", "Their cost: tokens x layers.", ("tenant",), registry=make
        )
        self.tenant_queue_seconds = Counter(
            "chorus_tenant_queue_seconds_total", "Seconds that they waited.", ("tenant",), registry=make
        )


def render(registry: CollectorRegistry) -> str:
    """The registry as Prometheus text, without the creation times that no dashboard reads."""
    return generate_latest(_WithoutCreated(registry)).decode()


def _outcome(code: int) -> str:
    return "answered" if code < 400 else "refused" if code < 500 else "failed"


class _WithoutCreated(Collector):
    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        for family in self._inner.collect():
            kept = Metric(family.name, family.documentation, family.type)
            kept.samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
            yield kept
