"""Counting and rendering."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import LIMITS, EngineMetrics, GatewayMetrics, render
from tests.serving.readings import counts, samples, seen

BASE_UNITS = ("_seconds", "_bytes")
NO_UNITS = re.compile(r"_(ms|milliseconds|us|minutes|kib|mib|kb|mb|percent)(_|$)")


@pytest.fixture
def gateway() -> GatewayMetrics:
    metrics = GatewayMetrics(tenants=4)
    metrics.see(seen)
    return metrics


@pytest.fixture
def engine() -> EngineMetrics:
    return EngineMetrics(counts, tenants=4)


def told(metrics) -> dict:
    return samples(render(metrics.registry))


def test_an_answer_is_counted_by_method_route_and_code(gateway):
    gateway.answered("POST", "/v1/predict", 200, 0.02)
    gateway.answered("POST", "/v1/predict", 200, 0.2)
    found = told(gateway)
    labels = (("code", "200"), ("method", "POST"), ("route", "/v1/predict"))
    assert found["chorus_http_requests_total", labels] == 2
    assert found["chorus_http_request_seconds_count", (("route", "/v1/predict"),)] == 2
    assert found["chorus_http_request_seconds_bucket", (("le", "0.025"), ("route", "/v1/predict"))] == 1
    assert not any(name.startswith("chorus_tenant") for name, _ in found)


@pytest.mark.parametrize(
    ("code", "outcome"), [(200, "answered"), (304, "answered"), (404, "refused"), (429, "refused"), (503, "failed")]
)
def test_a_tenants_answer_is_counted_by_how_it_ended(gateway, code, outcome):
    gateway.answered("POST", "/v1/predict", code, 0.02, "acme")
    assert told(gateway)["chorus_tenant_requests_total", (("outcome", outcome), ("tenant", "acme"))] == 1


def test_refusals_are_counted_by_reason_and_by_tenant_only_where_a_limit_refused(gateway):
    gateway.refused("rate_limited", "acme")
    gateway.refused("adapter_not_found", "acme")
    gateway.refused("overloaded")
    found = told(gateway)
    assert {labels[0][1]: n for (name, labels), n in found.items() if name == "chorus_refusals_total"} == {
        "rate_limited": 1,
        "adapter_not_found": 1,
        "overloaded": 1,
    }
    by_tenant = {labels: n for (name, labels), n in found.items() if name == "chorus_tenant_refusals_total"}
    assert by_tenant == {(("reason", "rate_limited"), ("tenant", "acme")): 1}


def test_rows_are_counted_once_for_all_and_once_per_tenant(gateway):
    gateway.sent("acme", 3, 30)
    gateway.sent("globex", 1, 5)
    found = told(gateway)
    assert found["chorus_gateway_rows_total", ()] == 4
    assert found["chorus_gateway_tokens_total", ()] == 35
    assert found["chorus_tenant_rows_total", (("tenant", "acme"),)] == 3
    assert found["chorus_tenant_tokens_total", (("tenant", "globex"),)] == 5


def test_however_many_tenants_come_their_series_are_bounded_and_add_up(gateway, engine):
    gateway.tenants.prefer("gold".__eq__)
    for name in (*(f"t{i}" for i in range(50)), "gold"):
        gateway.answered("GET", "/v1/limits", 200, 0.01, name)
        gateway.refused("rate_limited", name)
        gateway.sent(name, 1, 10)
        engine.served(name, rows=1, cost=10.0, queue_s=0.1)
    found = told(gateway) | told(engine)
    families = {name for name, labels in found if "tenant" in dict(labels)}
    assert len(families) == 7
    for family in families:
        names = {dict(labels)["tenant"]: n for (name, labels), n in found.items() if name == family}
        assert len(names) <= 5
        assert names["other"] > 4 * names["t0"]
    rows = {dict(labels)["tenant"]: n for (name, labels), n in found.items() if name == "chorus_tenant_rows_total"}
    assert rows == {"t0": 1, "t1": 1, "gold": 1, "other": 48}


def test_a_step_is_counted_by_what_was_in_it(engine):
    engine.stepped(rows=3, tokens=40, adapters=2, stacks=2, seconds=0.02)
    engine.mixed([("lora", "bottleneck"), ("lora", "lora"), ()])
    found = told(engine)
    assert found["chorus_batches_total", ()] == 1
    assert found["chorus_batch_tokens_bucket", (("le", "32.0"),)] == 0
    assert found["chorus_batch_tokens_bucket", (("le", "64.0"),)] == 1
    assert found["chorus_batch_methods_bucket", (("le", "1.0"),)] == 0
    assert found["chorus_batch_methods_bucket", (("le", "2.0"),)] == 1
    assert found["chorus_method_rows_total", (("method", "lora"),)] == 2
    assert found["chorus_method_rows_total", (("method", "bottleneck"),)] == 1


def test_what_a_tenant_was_served_adds_up(engine):
    engine.served("acme", rows=2, cost=120.0, queue_s=0.5)
    engine.served("acme", rows=1, cost=60.0, queue_s=0.25)
    found, acme = told(engine), (("tenant", "acme"),)
    assert found["chorus_tenant_served_rows_total", acme] == 3
    assert found["chorus_tenant_served_cost_total", acme] == 180
    assert found["chorus_tenant_queue_seconds_total", acme] == 0.75


def test_two_processes_of_one_interpreter_share_no_metric():
    one, other = GatewayMetrics(), GatewayMetrics()
    one.rows.inc(5)
    assert told(other)["chorus_gateway_rows_total", ()] == 0


def test_before_a_gateway_looks_around_it_tells_nothing_of_it():
    assert "chorus_engines" not in render(GatewayMetrics().registry)


def test_both_kinds_of_process_tell_of_themselves(gateway, engine):
    for metrics in (gateway, engine):
        found = told(metrics)
        assert found["chorus_process_resident_memory_bytes", ()] > 1 << 20
        assert found["chorus_process_open_fds", ()] > 2


def test_creation_times_are_left_out(gateway, engine):
    assert "_created" not in render(gateway.registry) + render(engine.registry)


def test_names_follow_the_rules_of_prometheus(gateway, engine):
    families = [
        family for metrics in (gateway, engine) for family in text_string_to_metric_families(render(metrics.registry))
    ]
    assert len(families) > 50
    for family in families:
        name = family.name
        assert name.startswith("chorus_"), name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), f"{name}: a colon is for recording rules"
        assert NO_UNITS.search(name) is None, f"{name}: seconds and bytes are the units"
        assert family.documentation.endswith("."), name
        if family.type == "histogram":
            assert name.endswith(BASE_UNITS) or name.startswith("chorus_batch_"), name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


def test_no_histogram_and_no_gauge_has_a_label_that_tenants_could_make_many_of(gateway, engine):
    gateway.answered("GET", "/v1/limits", 200, 0.01, "acme")
    engine.served("acme", rows=1, cost=1.0, queue_s=0.1)
    for metrics in (gateway, engine):
        for family in text_string_to_metric_families(render(metrics.registry)):
            for sample in family.samples:
                assert not {"adapter", "digest", "name", "request_id"} & sample.labels.keys()
                assert family.type == "counter" or "tenant" not in sample.labels


def test_the_reasons_that_are_counted_per_tenant_are_few():
    """They are multiplied by the tenants."""
    assert len(LIMITS) <= 8
