"""What a PromQL expression names: metrics, and the labels that it asks of each. And what the service exposes."""

import re
from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

from serving.merging import merge
from serving.metrics import EngineMetrics, GatewayMetrics, render
from tests.serving.readings import counts, seen

OF_THE_SCRAPE = {"job", "instance"}  # labels that Prometheus adds
OF_PROMETHEUS = {"up": OF_THE_SCRAPE}
WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_WORD = re.compile(r"(?<![\w:.])([a-zA-Z_:][a-zA-Z0-9_:]*)(?![\w:])(?!\s*\()")
_VARIABLES = {"$__rate_interval": "5m", "$job": "chorus", "$replica": ".*"}


def filled(query: str) -> str:
    """A query of Grafana as one of Prometheus."""
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def metrics(query: str) -> set[str]:
    """The names of the metrics in an expression."""
    bare = _STRING.sub('""', query)
    bare = _RANGE.sub("", _GROUPING.sub(" ", _SELECTOR.sub(r"\1 ", bare)))
    return {word for word in _WORD.findall(bare) if word not in WORDS}


def selected(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that is selected by labels, with the names of these."""
    for name, inside in _SELECTOR.findall(_STRING.sub('""', query)):
        yield name, set(re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", inside))


def grouped(query: str) -> set[str]:
    """The labels by which an expression is grouped or matched."""
    return {label.strip() for inside in _GROUPING.findall(query) for label in inside.split(",") if label.strip()}


def exposed() -> Mapping[str, set[str]]:
    """Every series name of `GET /metrics`, with the names of its labels; each metric has been used once."""
    gateway, engine = GatewayMetrics(), EngineMetrics(counts)
    gateway.see(seen)
    gateway.watch(lambda: {"published": 1})
    gateway.answered("POST", "/v1/predict", 200, 0.01, "acme")
    gateway.refused("rate_limited", "acme")
    gateway.sent("acme", 1, 1)
    gateway.retries.labels("replica_lost").inc()
    gateway.publishes.labels("201").inc()
    engine.mixed([("lora",)])
    engine.served("acme", rows=1, cost=1.0, queue_s=0.1)
    engine.found.labels("device").inc()
    engine.refusals.labels("overloaded").inc()
    text = merge({"gateway": render(gateway.registry), "engine": render(engine.registry)})
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        assert family.samples, f"{family.name} has no sample: use it above"
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels, OF_THE_SCRAPE)
    return names
