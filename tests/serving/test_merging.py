"""Many expositions as one: nothing lost, nothing told twice."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.parser import text_string_to_metric_families

from serving.merging import merge
from serving.metrics import EngineMetrics, GatewayMetrics, render
from tests.serving.readings import counts, samples


def one(value: str, name: str = "where", replica: str = "r") -> str:
    """The merged text of one process with one sample, whose label has this value."""
    registry = CollectorRegistry()
    Counter("chorus_x_total", "Help.", (name,), registry=registry).labels(value).inc()
    return merge({replica: render(registry)})


def test_each_family_is_named_once_and_each_sample_by_its_replica():
    gateways, engine = [GatewayMetrics(), GatewayMetrics()], EngineMetrics(counts)
    gateways[0].rows.inc(1)
    gateways[1].rows.inc(2)
    engine.queue_seconds.observe(0.3)
    text = merge(
        {"g1": render(gateways[0].registry), "g2": render(gateways[1].registry), "e1": render(engine.registry)}
    )
    found = samples(text)
    assert found["chorus_gateway_rows_total", (("replica", "g1"),)] == 1
    assert found["chorus_gateway_rows_total", (("replica", "g2"),)] == 2
    assert found["chorus_queue_seconds_bucket", (("le", "0.5"), ("replica", "e1"))] == 1
    assert text.count("# TYPE chorus_gateway_rows_total counter") == 1
    assert text.count("# HELP chorus_gateway_rows_total Rows") == 1
    assert text.count("# TYPE chorus_queue_seconds histogram") == 1


def test_nothing_is_lost_and_every_value_keeps_its_labels():
    texts = {"g": render(GatewayMetrics().registry), "e": render(EngineMetrics(counts).registry)}
    merged = samples(merge(texts))
    alone = {
        (name, tuple(sorted((*labels, ("replica", replica))))): value
        for replica, text in texts.items()
        for (name, labels), value in samples(text).items()
    }
    assert merged == alone
    assert len(merged) > 150


def test_the_samples_of_a_family_stand_together():
    """Prometheus takes a family that is told in two places for a mistake."""
    texts = {f"g{i}": render(GatewayMetrics().registry) for i in range(3)}
    names = [family.name for family in text_string_to_metric_families(merge(texts))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "value", ['a"b\\c\nd', "}", "{", 'x="y",z="', "a b", "", "\x0b\x0c\x85\u2028\r", "\\", ",", "#"]
)
@pytest.mark.parametrize("name", ["code", "where"])  # before and after `replica`
def test_a_hostile_label_value_survives(name, value):
    ((key, count),) = samples(one(value, name)).items()
    assert key == ("chorus_x_total", tuple(sorted({name: value, "replica": "r"}.items())))
    assert count == 1


def test_labels_stand_in_the_order_of_the_alphabet():
    assert 'chorus_x_total{code="v",replica="r"} 1.0' in one("v", "code")
    assert 'chorus_x_total{replica="r",where="v"} 1.0' in one("v", "where")


def test_a_replica_may_be_called_anything():
    ((key, _),) = samples(one("v", "code", replica='r"\\\n}')).items()
    assert dict(key[1])["replica"] == 'r"\\\n}'


def test_a_sample_without_labels_gets_one():
    registry = CollectorRegistry()
    Gauge("chorus_y", "Help with a { brace.", registry=registry).set(2)
    assert 'chorus_y{replica="r"} 2.0\n' in merge({"r": render(registry)})


def test_one_name_for_two_kinds_of_metric_is_an_error():
    with pytest.raises(ValueError, match="chorus_x is a gauge in one process and a histogram in another"):
        merge(
            {
                "a": "# TYPE chorus_x gauge\nchorus_x 1\n",
                "b": '# TYPE chorus_x histogram\nchorus_x_bucket{le="+Inf"} 1\n',
            }
        )


def test_a_sample_of_no_family_is_an_error():
    with pytest.raises(ValueError, match="'chorus_x 1' of a comes before any family"):
        merge({"a": "chorus_x 1\n"})


def test_nothing_to_merge_is_an_empty_text():
    assert merge({}) == merge({"a": ""}) == ""


def counted() -> dict[str, str]:
    """The texts of a gateway and an engine that counted for two tenants, and for those that are not told apart."""
    gateway, engine = GatewayMetrics(tenants=4), EngineMetrics(counts)
    for tenant in ("acme", "rival", "third", "fourth"):
        gateway.answered("GET", "/v1/keys", 200, 0.1, tenant)
        gateway.refused("rate_limited", tenant)
    gateway.sent("rival", 3, 30)
    engine.served("acme", rows=1, cost=2.0, queue_s=0.5)
    engine.served("rival", rows=1, cost=2.0, queue_s=0.5)
    return {"g": render(gateway.registry), "e": render(engine.registry)}


def test_a_tenant_is_told_its_own_samples_and_those_of_nobody():
    texts = counted()
    everything, own = samples(merge(texts)), samples(merge(texts, "acme"))
    told = {key: dict(key[1]).get("tenant") for key in everything}
    assert set(told.values()) == {None, "acme", "rival", "other"}
    assert own == {key: value for key, value in everything.items() if told[key] in (None, "acme")}


@pytest.mark.parametrize("tenant", ["other", "nobody", "acm", "acme2", ""])
def test_who_is_not_told_apart_is_told_nothing_of_others(tenant):
    texts = counted()
    text = merge(texts, tenant)
    assert "tenant=" not in text
    unlabelled = {key: value for key, value in samples(merge(texts)).items() if "tenant" not in dict(key[1])}
    assert samples(text) == unlabelled


def test_a_value_that_looks_like_a_tenant_is_none():
    registry = CollectorRegistry()
    counter = Counter("chorus_x_total", "Help.", ("a", "tenant", "z"), registry=registry)
    counter.labels('",tenant="acme",b="', "rival", "").inc()
    counter.labels("", "acme", 'tenant="rival"').inc()
    ((_, labels),) = samples(merge({"r": render(registry)}, "acme"))
    assert dict(labels)["z"] == 'tenant="rival"'
    plain = CollectorRegistry()
    Counter("chorus_y_total", "Help.", ("where",), registry=plain).labels('tenant="rival"').inc()
    assert len(samples(merge({"r": render(plain)}, "acme"))) == 1
