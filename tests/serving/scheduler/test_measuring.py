import pytest

from serving.metrics import EngineMetrics, render
from serving.scheduler.batcher import Budget
from serving.scheduler.measuring import Measuring
from serving.scheduler.pace import Pace
from serving.scheduler.queue import FairQueue
from serving.scheduler.waiting import Picked, Waiting
from tests.serving.readings import counts
from tests.serving.scheduler.machine import Clock, ticket


class Bench:
    def __init__(self, rate=0.0):
        self.metrics, self.queue, self.pace = EngineMetrics(counts), FairQueue(2, 100, Clock()), Pace(2, 0.05, rate)
        self.measuring = Measuring(self.queue, Budget(4, 64, 1000), self.pace, self.metrics)

    def row(self, name, tenant="a", tokens=4, queue_s=0.0, adapters=()):
        made = ticket(name, tenant, adapters, tokens)
        return Picked(Waiting(made, made.refs, print, 0.0, 60.0), queue_s, 0.0)

    @property
    def text(self):
        return render(self.metrics.registry)


def test_what_is_known_of_the_pace_is_told_before_any_step():
    assert "chorus_cost_per_second 640.0" in Bench(rate=640.0).text


def test_a_step_teaches_the_pace_and_is_counted():
    bench = Bench()
    rows = [bench.row("x", tokens=6, adapters=["l", "m"]), bench.row("y", "b", tokens=4, adapters=["m"])]
    bench.measuring.stepped(rows, 0.5)
    assert bench.pace.rate == pytest.approx(2 * 10 / 0.5)
    for line in ("chorus_cost_per_second 40.0", "chorus_rows_total 2.0", "chorus_tokens_total 10.0"):
        assert line in bench.text


def test_only_a_full_step_or_a_faster_one_corrects_the_pace():
    bench = Bench(rate=1000.0)
    bench.measuring.stepped([bench.row("x")], 0.5)
    assert bench.pace.rate == 1000.0
    bench.measuring.stepped([bench.row("x"), bench.row("y")], 0.5)
    assert bench.pace.rate < 1000.0


def test_what_waits_and_what_runs_is_told():
    bench = Bench()
    made = ticket("w", tokens=5)
    bench.queue.put(Waiting(made, made.refs, print, 0.0, 60.0), 0.0)
    bench.measuring.gauge(3)
    for line in ("chorus_queued_rows 1.0", "chorus_running_rows 3.0", "chorus_queued_cost 10.0"):
        assert line in bench.text
