"""Counting, rendering and merging."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import TIERS, CacheCounts, EngineMetrics, GatewayMetrics, merge, render


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counts(hits=3):
    by_tier = dict.fromkeys(TIERS, 0)
    return CacheCounts(
        evictions=by_tier,
        loaded_bytes=by_tier | {"host": 4096},
        resident_bytes=by_tier | {"device": 1024},
        hits=hits,
        misses=2,
        loads=2,
        load_failures=1,
        load_seconds=by_tier | {"host": 0.5},
    )


def test_an_answer_is_counted_by_method_route_and_code():
    metrics = GatewayMetrics()
    metrics.answered("POST", "/v1/predict", 200, 0.02)
    metrics.answered("POST", "/v1/predict", 200, 0.2)
    found = samples(render(metrics.registry))
    labels = (("code", "200"), ("method", "POST"), ("route", "/v1/predict"))
    assert found["chorus_http_requests_total", labels] == 2
    assert found["chorus_http_request_seconds_count", (("route", "/v1/predict"),)] == 2
    assert found["chorus_http_request_seconds_bucket", (("le", "0.025"), ("route", "/v1/predict"))] == 1


def test_two_processes_of_one_interpreter_share_no_metric():
    one, other = GatewayMetrics(), GatewayMetrics()
    one.rows.inc(5)
    assert samples(render(other.registry))["chorus_gateway_rows_total", ()] == 0


def test_the_caches_numbers_are_read_when_rendered_and_not_before():
    reads = []
    metrics = EngineMetrics(lambda: (reads.append(1), counts(hits=len(reads)))[1])
    assert reads == []
    assert samples(render(metrics.registry))["chorus_cache_hits_total", ()] == 1
    found = samples(render(metrics.registry))
    assert found["chorus_cache_hits_total", ()] == 2
    assert found["chorus_resident_bytes", (("tier", "device"),)] == 1024
    assert found["chorus_cache_loaded_bytes_total", (("tier", "host"),)] == 4096
    assert found["chorus_cache_load_seconds_total", (("tier", "host"),)] == 0.5
    assert found["chorus_cache_misses_total", ()] == 2
    assert found["chorus_cache_load_failures_total", ()] == 1


def test_creation_times_are_left_out():
    assert "_created" not in render(GatewayMetrics().registry)
    assert "_created" not in render(EngineMetrics(counts).registry)


def test_a_merge_names_each_family_once_and_each_sample_by_replica():
    one, other, engine = GatewayMetrics(), GatewayMetrics(), EngineMetrics(counts)
    one.rows.inc(1)
    other.rows.inc(2)
    engine.queue_seconds.observe(0.3)
    text = merge({"g1": render(one.registry), "g2": render(other.registry), "e1": render(engine.registry)})
    found = samples(text)
    assert found["chorus_gateway_rows_total", (("replica", "g1"),)] == 1
    assert found["chorus_gateway_rows_total", (("replica", "g2"),)] == 2
    assert found["chorus_queue_seconds_bucket", (("le", "0.5"), ("replica", "e1"))] == 1
    assert text.count("# TYPE chorus_gateway_rows_total counter") == 1
    assert text.count("# TYPE chorus_queue_seconds histogram") == 1


def test_a_merge_loses_nothing():
    texts = {"g": render(GatewayMetrics().registry), "e": render(EngineMetrics(counts).registry)}
    lines = sum(len([line for line in text.splitlines() if line[0] != "#"]) for text in texts.values())
    assert len([line for line in merge(texts).splitlines() if line[0] != "#"]) == lines


def test_a_hostile_label_value_survives_the_merge():
    metrics = GatewayMetrics()
    metrics.refusals.labels('a"b\\c\nd').inc()
    found = samples(merge({"g": render(metrics.registry)}))
    assert found["chorus_refusals_total", (("reason", 'a"b\\c\nd'), ("replica", "g"))] == 1


def test_one_name_for_two_kinds_of_metric_is_an_error():
    with pytest.raises(ValueError, match="chorus_x is a gauge in one process and a histogram in another"):
        merge(
            {
                "a": "# TYPE chorus_x gauge\nchorus_x 1\n",
                "b": '# TYPE chorus_x histogram\nchorus_x_bucket{le="+Inf"} 1\n',
            }
        )


def test_nothing_to_merge_is_an_empty_text():
    assert merge({}) == ""


def test_no_metric_is_labelled_by_tenant_or_adapter():
    for registry in (GatewayMetrics().registry, EngineMetrics(counts).registry):
        for collector in set(registry._collector_to_names):
            assert not {"tenant", "adapter", "digest"} & set(getattr(collector, "_labelnames", ()))
