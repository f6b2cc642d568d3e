from dataclasses import replace

import numpy as np
import pytest

from loadtests.results.comparing import NoStep, compare, differences, side
from loadtests.scenarios.steps import steps_of
from tests.loadtests.fake import plain_run, run_of, scenario, steady, sweep_run, take_of


def noisy_run(middle, seed):
    rng = np.random.default_rng(seed)
    held = scenario()
    (step,) = steps_of(held)
    samples = steady(100, 12, lambda _: middle * float(rng.lognormal(0, 0.3)))
    return run_of(held, [take_of(step, samples, rate=100.0)])


def lines(a, b):
    return {line.figure: line for line in compare(side(a, None, "a"), side(b, None, "b"))}


def test_ratios_are_of_b_over_a():
    found = lines(plain_run(wait=0.01), plain_run(wait=0.02))
    assert found["p50_ms"].ratio == pytest.approx(2.0)
    assert found["throughput"].ratio == pytest.approx(1.0, rel=0.01)
    assert found["wrong"].ratio is None
    assert "knee_rate" not in found


def test_the_interval_holds_the_truth_and_tells_no_difference_where_there_is_none():
    same = lines(noisy_run(0.02, 1), noisy_run(0.02, 2))["p50_ms"]
    assert same.low < 1 < same.high
    double = lines(noisy_run(0.02, 1), noisy_run(0.04, 2))["p50_ms"]
    assert 1.5 < double.low < 2 < double.high < 2.6
    assert double.low <= double.ratio <= double.high


def test_figures_without_parts_have_no_interval():
    found = lines(plain_run(), plain_run(wait=0.02))
    assert (found["p90_ms"].low, found["p90_ms"].high) == (None, None)


def test_the_figures_of_a_sweep_have_no_interval_and_those_of_a_step_have_one():
    run = sweep_run(over="adapters", values=(1, 10), rounds=2)
    assert lines(run, run)["p50_ms"].low is None
    (one,) = [line for line in compare(side(run, "1", "a"), side(run, "1", "b")) if line.figure == "p50_ms"]
    assert one.low == pytest.approx(1.0)


def with_throughput(*blocks):
    run = plain_run()
    return replace(run, takes=(replace(run.takes[0], blocks=tuple((block, None, None) for block in blocks)),))


def test_a_part_in_which_nothing_was_answered_counts():
    stalled = lines(with_throughput(50.0, 50.0, 50.0), with_throughput(0.0, 0.0, 50.0))["throughput"]
    assert (stalled.low, stalled.high) == (0.0, 1.0)
    assert lines(with_throughput(0.0, 0.0, 50.0), plain_run())["throughput"].low is None  # over nothing
    assert lines(with_throughput(50.0, 50.0, 50.0), plain_run())["p50_ms"].low is None  # parts without a wait


def test_two_steps_of_one_run_are_two_sides():
    run = sweep_run(over="adapters", values=(1, 10, 100), rounds=2)
    one, other = side(run, "1", "run@1"), side(run, "100", "run@100")
    found = {line.figure: line for line in compare(one, other)}
    assert found["throughput"].a == pytest.approx(30, rel=0.02)
    assert found["throughput"].b == pytest.approx(63, rel=0.02)
    assert "throughput_kept" not in found


def test_a_step_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(NoStep, match=r"no step '7': there are 0\.5, 1, 1\.5"):
        side(sweep_run(), "7", "run")
    with pytest.raises(NoStep, match="it sweeps nothing"):
        side(plain_run(), "7", "run")


def test_what_was_said_differently_is_told():
    a, b = plain_run(), plain_run()
    changed = replace(b, scenario=scenario(popularity={"s": 2.0}), service={**b.service, "dtype": "bfloat16"})
    assert differences(a, b) == []
    assert differences(a, changed) == [
        ("scenario.popularity.s", 1.0, 2.0),
        ("service.dtype", "float32", "bfloat16"),
    ]
