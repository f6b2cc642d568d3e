from dataclasses import replace

import numpy as np
import pytest

from loadtests.scenarios.reading import scenario_of
from loadtests.traffic.trace import RESERVE, closed_trace, open_trace

SCENARIO = scenario_of(
    {
        "about": "a test",
        "arrivals": {"rate": 100},
        "adapters": {"count": 20},
        "time": {"seconds": 20.0, "warmup_s": 4.0},
    },
    "x",
)
PAIR = scenario_of(
    {
        "about": "a test",
        "arrivals": {"rate": 100},
        "adapters": {"count": 5},
        "time": {"seconds": 20.0, "warmup_s": 2.0, "phase_s": 5.0},
        "tenants": [{"name": "a", "share": 1.0}, {"name": "b", "share": 3.0, "only": "busy"}],
    },
    "x",
)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("at", "tenant", "adapter", "texts"))


def test_a_seed_gives_one_trace():
    assert same(open_trace(SCENARIO, 100.0, 1), open_trace(SCENARIO, 100.0, 1))
    assert not same(open_trace(SCENARIO, 100.0, 1), open_trace(SCENARIO, 100.0, 2))


def test_requests_come_at_the_rate_all_the_while_warm_up_included():
    trace = open_trace(SCENARIO, 100.0, 0)
    assert len(trace) == pytest.approx(2400, rel=0.1)
    assert 23 < trace.at[-1] < 24
    assert trace.adapter.max() == 19


def test_texts_are_those_that_the_adapter_has():
    scenario = replace(SCENARIO, requests=replace(SCENARIO.requests, rows=6))
    trace = open_trace(scenario, 200.0, 0)
    assert trace.texts.shape == (len(trace), 6)
    for adapter in (0, 10, 19):
        assert trace.texts[trace.adapter == adapter].max() == SCENARIO.adapters.texts_of(adapter) - 1


def test_tenants_ask_by_their_shares_and_a_busy_one_in_busy_phases_alone():
    trace = open_trace(PAIR, 400.0, 0)
    busy = (trace.at >= 7) & (trace.at < 12) | (trace.at >= 17)
    assert set(trace.tenant[~busy]) == {0}
    assert (trace.tenant[busy] == 1).mean() == pytest.approx(0.75, abs=0.03)
    assert (np.diff(trace.at) >= 0).all()


def test_a_faster_load_asks_the_same_people():
    slow, fast = open_trace(SCENARIO, 100.0, 0), open_trace(SCENARIO, 1000.0, 0)
    counts = [np.bincount(trace.adapter, minlength=20) / len(trace) for trace in (slow, fast)]
    assert counts[0].argmax() == counts[1].argmax()


def test_a_closed_loop_has_a_reserve_and_no_times():
    trace = closed_trace(PAIR, 0)
    assert len(trace) == RESERVE
    assert not trace.at.any()
    assert (trace.tenant == 1).mean() == pytest.approx(0.75, abs=0.02)
    assert (trace.tenant[:200] == 1).any()
    assert (trace.tenant[:200] == 0).any()
