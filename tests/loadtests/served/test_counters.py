import pytest

from loadtests.served.counters import between, read_totals
from serving.metrics import EngineMetrics, render
from serving.readings import CacheCounts


class Engine:
    """An engine's own metrics, rendered as the service renders them."""

    def __init__(self):
        self.found = {"device": 0, "host": 0, "disk": 0}
        self.metrics = EngineMetrics(self.counts)

    def counts(self):
        empty = dict.fromkeys(self.found, 0)
        values = dict.fromkeys(CacheCounts.__dataclass_fields__, 0)
        for name, field in CacheCounts.__dataclass_fields__.items():
            if "Mapping" in str(field.type):
                values[name] = dict(empty)
        return CacheCounts(**(values | {"found": dict(self.found)}))

    def text(self):
        return render(self.metrics.registry)


def test_what_an_engine_counts_is_read():
    engine = Engine()
    engine.metrics.stepped(rows=9, tokens=9, adapters=9, stacks=9, seconds=9.0)
    before = read_totals(engine.text())
    engine.metrics.stepped(rows=4, tokens=100, adapters=3, stacks=3, seconds=0.02)
    engine.metrics.stepped(rows=2, tokens=50, adapters=1, stacks=1, seconds=0.04)
    engine.found = {"device": 8, "host": 1, "disk": 1}
    counted = between(before, read_totals(engine.text()))
    assert (counted.batches, counted.rows_per_batch, counted.tokens_per_batch) == (2, 3, 75)
    assert counted.distinct_per_batch == 2
    assert counted.forward_ms == pytest.approx(30)
    assert counted.hit_ratio == {"device": 0.8, "host": 0.5, "disk": 1.0}
    assert counted.queue_ms is None


def test_replicas_add_up():
    text = '# TYPE chorus_rows_total counter\nchorus_rows_total{replica="a"} 2\nchorus_rows_total{replica="b"} 3\n'
    assert read_totals(text) == {("chorus_rows_total", ""): 5}


def test_nothing_counted_is_no_ratio():
    counted = between({}, {})
    assert (counted.rows_per_batch, counted.hit_ratio["device"], counted.batches) == (None, None, 0)


def test_an_engine_that_was_replaced_takes_nothing_away():
    assert between({("chorus_batches_total", ""): 9.0}, {("chorus_batches_total", ""): 2.0}).batches == 0
