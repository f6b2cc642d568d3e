import json

import pytest

from loadtests.drive import ERROR, RIGHT, WRONG, Outcome, Sample
from loadtests.report import hit_rate, latency_of, make_report, windows_of


def sample(index, due=0.0, latency=0.1, verdict=RIGHT, tier="hit", status=200, detail="", adapter=0):
    held = None if verdict == ERROR else tier
    return Sample(index, adapter, due, due + 0.001, due + latency, Outcome(verdict, status, held, detail))


MANY = [sample(i, due=i * 0.1, latency=(i + 1) / 1000, adapter=i % 4) for i in range(100)]


def test_percentiles_are_milliseconds_between_ranks():
    found = latency_of(MANY)
    assert found.count == 100
    assert found.mean == pytest.approx(50.5)
    assert found.percentiles["p50"] == pytest.approx(50.5)
    assert found.percentiles["p99"] == pytest.approx(99.01)
    assert found.max == pytest.approx(100.0)


def test_no_answers_have_no_percentiles():
    found = latency_of([])
    assert found.count == 0
    assert set(found.percentiles.values()) == {None}


def test_errors_and_wrong_answers_are_counted_apart():
    samples = [
        *MANY,
        sample(100, due=9.9, latency=5.0, verdict=ERROR, status=429, detail="overloaded"),
        sample(101, due=9.9, latency=5.0, verdict=ERROR, status=429, detail="overloaded"),
        sample(102, due=9.9, latency=5.0, verdict=ERROR, status=0, detail="TimeoutError: "),
        sample(103, due=9.9, latency=0.1, verdict=WRONG, tier="miss", detail="scores off by 1", adapter=9),
    ]
    report = make_report("zipf", {"seed": 1}, samples)
    assert (report.requests, report.answered, report.wrong) == (104, 101, 1)
    assert report.errors == {"429 overloaded": 2, "0 TimeoutError:": 1}
    assert report.latency["all"].count == 101
    assert report.latency["miss"].count == 1
    assert report.latency["all"].max == pytest.approx(100.0), "errors are no latencies"
    assert report.hit_rate == pytest.approx(100 / 101)
    assert report.distinct_adapters == 5
    assert report.seconds == pytest.approx(14.9)
    assert report.throughput == pytest.approx(101 / 14.9)
    assert report.send_lag_p99 == pytest.approx(1.0)
    assert report.faults == ["request 103, adapter 9: scores off by 1"]


def test_windows_cover_the_run_and_lose_nothing():
    windows = windows_of(MANY, count=7)
    assert windows[0].start == 0.0
    assert windows[-1].end == pytest.approx(10.0)
    assert sum(w.offered * (w.end - w.start) for w in windows) == pytest.approx(100)
    assert sum(w.answered * (w.end - w.start) for w in windows) == pytest.approx(100)


def test_a_window_without_requests_has_gaps_and_no_zeros():
    windows = windows_of([sample(0), sample(1, due=10.0)], count=5)
    assert windows[2].p50 is None
    assert windows[2].hit_rate is None
    assert windows[2].offered == 0


def test_the_hit_rate_of_nothing_is_unknown():
    assert hit_rate([]) is None
    assert hit_rate([sample(0), sample(1, tier="miss")]) == 0.5


def test_the_files_hold_the_report_and_every_sample(tmp_path):
    report = make_report("zipf", {"seed": 1}, MANY)
    path = report.write(tmp_path / "deep" / "out", MANY)
    assert json.loads(path.read_text())["latency"]["hit"]["count"] == 100
    lines = (path.parent / "samples.jsonl").read_text().splitlines()
    assert len(lines) == 100
    assert json.loads(lines[3])["outcome"]["verdict"] == RIGHT
    assert any("wrong answers 0" in line for line in report.lines())
