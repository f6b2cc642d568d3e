from dataclasses import replace

import pytest

from loadtests.results.judging import by_step, checks_of, figures_of, points_of
from loadtests.scenarios.steps import steps_of
from tests.loadtests.fake import CLIENT, COUNTED, phased_run, plain_run, sample, scenario, steady, sweep_run, take_of


def figures(samples, **changes):
    held = scenario(**changes)
    (step,) = steps_of(held)
    return figures_of(held, [take_of(step, samples)])


def test_the_figures_of_one_step():
    found = plain_run().figures
    assert found["requests"] == 600
    assert found["throughput"] == pytest.approx(50)
    assert found["p99_ms"] == pytest.approx(10)
    assert (found["wrong"], found["failed"], found["refused_share"], found["answered_share"]) == (0, 0, 0, 1)
    assert (found["hit_ratio"], found["distinct_per_batch"], found["client_lag_p99_ms"]) == (1, 3, 1.5)
    assert "fairness" not in found
    assert "knee_rate" not in found


def test_a_wrong_answer_counts_also_in_the_warm_up():
    found = figures([*steady(50, 12), sample(0.5, verdict="wrong"), sample(0.6, verdict="failed")])
    assert (found["wrong"], found["failed"], found["answered_share"]) == (1, 1, 1)


def test_shares_are_of_what_was_asked_while_it_was_measured():
    found = figures([*steady(45, 12), *steady(5, 12, verdict="refused")])
    assert found["refused_share"] == pytest.approx(0.1)
    assert found["answered_share"] == pytest.approx(0.9)


def test_several_rounds_are_their_median_and_a_sweep_is_its_worst_step():
    held = scenario(sweep={"over": "cv", "values": [1, 2]})
    one, two = steps_of(held)
    waits = {(0, one): 0.01, (1, one): 0.02, (2, one): 0.09, (0, two): 0.05, (1, two): 0.04, (2, two): 0.03}
    takes = [take_of(step, steady(50, 12, wait), number) for (number, step), wait in waits.items()]
    found = figures_of(held, takes)
    assert found["p50_ms"] == pytest.approx(40)
    assert found["last_over_first_p50"] == pytest.approx(2.0)  # of 5, 2 and a third
    assert found["throughput_kept"] == pytest.approx(1.0, rel=0.01)


def test_steps_keep_their_order_whatever_the_rounds_did():
    run = sweep_run(rounds=2)
    turned = sorted(run.takes, key=lambda take: (take.round, -take.value if take.round else take.value))
    assert [step[0].value for step in by_step(turned)] == [0.5, 1.0, 1.5]
    assert [[take.round for take in step] for step in by_step(turned)] == [[0, 1]] * 3


def test_the_knee_of_a_ramp():
    run = sweep_run()
    assert [round(point.offered) for point in points_of(by_step(run.takes))] == [30, 60, 93]
    assert run.figures["knee_rate"] == pytest.approx(60, rel=0.02)
    assert run.figures["knee_load"] == 1.0
    assert run.figures["peak_rate"] == pytest.approx(60, rel=0.1)


def test_a_ramp_that_is_lost_from_the_start_has_no_knee():
    run = sweep_run(capacity=3.0)
    assert (run.figures["knee_rate"], run.figures["knee_load"]) == (0.0, 0.0)


def test_busy_phases_are_compared_with_the_quiet_one_before_each():
    found = phased_run().figures
    assert found["calm.busy_over_quiet_p50"] == pytest.approx(2.0)
    assert found["calm.busy_over_quiet_throughput"] == pytest.approx(1.0, abs=0.02)
    assert found["busy_over_quiet_throughput"] == pytest.approx(3.0, abs=0.1)
    assert found["loud.busy_over_quiet_p50"] is None
    assert found["loud.p50_ms"] == pytest.approx(30)
    assert found["fairness"] == pytest.approx(1.0, abs=0.01)


def test_what_a_scenario_says_takes_the_place_of_what_always_holds():
    held = scenario(thresholds=[{"figure": "refused_share", "at_most": 0.5}, {"figure": "p50_ms", "at_most": 5}])
    checks = {
        check.figure: check for check in checks_of(held, {"wrong": 2, "p50_ms": 6, "failed": 0, "refused_share": 0.4})
    }
    assert (checks["refused_share"].holds, checks["refused_share"].bound) == (True, "<= 0.5")
    assert not checks["p50_ms"].holds
    assert checks["failed"].holds
    assert not checks["late_share"].holds  # it was not measured
    assert "publish_failed" not in checks


@pytest.mark.parametrize("figure", ["wrong", "failed", "publish_failed"])
def test_no_scenario_allows_what_may_never_be(figure):
    held = scenario(thresholds=[{"figure": figure, "at_most": 3}], publishing={"per_s": 1.0})
    told = [(check.bound, check.holds) for check in checks_of(held, {figure: 2}) if check.figure == figure]
    assert told == [("<= 3", True), ("<= 0", False)]


def test_a_bound_is_checked_once_though_it_is_said_twice():
    held = scenario(thresholds=[{"figure": "wrong", "at_most": 0.0}])
    assert [check.figure for check in checks_of(held, {})].count("wrong") == 1


def test_one_round_of_refusals_is_not_hidden_by_two_without():
    held = scenario()
    (step,) = steps_of(held)
    good, bad = steady(50, 12), [*steady(40, 12), *steady(10, 12, verdict="refused")]
    found = figures_of(held, [take_of(step, samples, n) for n, samples in enumerate((good, bad, good))])
    assert found["refused_share"] == pytest.approx(0.2)
    assert found["answered_share"] == pytest.approx(0.8)
    assert found["throughput"] == pytest.approx(50)


def test_waits_are_not_told_where_a_round_has_none():
    held = scenario()
    (step,) = steps_of(held)
    rounds = (steady(50, 12), steady(50, 12, verdict="late"), steady(50, 12))
    found = figures_of(held, [take_of(step, samples, n) for n, samples in enumerate(rounds)])
    assert found["p99_ms"] is None


def test_throughput_of_steps_is_compared_in_tokens():
    """The second step's texts are half as long, and it answers twice as many: no gain."""
    held = scenario(sweep={"over": "adapters", "values": [1, 2]})
    one, two = steps_of(held)
    found = figures_of(held, [take_of(one, steady(50, 12, tokens=20)), take_of(two, steady(100, 12, tokens=10))])
    assert found["throughput_kept"] == pytest.approx(1.0)
    assert found["last_over_first_throughput"] == pytest.approx(1.0)
    assert found["throughput"] == pytest.approx(50)  # in requests


def test_fewer_requests_by_chance_are_no_loss_in_an_open_loop():
    held = scenario(sweep={"over": "cv", "values": [1, 8]})
    one, two = steps_of(held)
    takes = [take_of(one, steady(50, 12), rate=50.0), take_of(two, steady(30, 12), rate=50.0)]
    assert figures_of(held, takes)["throughput_kept"] == pytest.approx(1.0, rel=0.02)
    slow = take_of(two, [*steady(15, 12), *steady(15, 12, verdict="late")], rate=50.0)
    assert figures_of(held, [takes[0], slow])["throughput_kept"] == pytest.approx(0.5, rel=0.02)


PHASED = {"time": {"seconds": 8.0, "warmup_s": 0.0, "phase_s": 2.0}, "publishing": {"per_s": 1.0}}


def test_throughput_of_phases_is_compared_in_tokens():
    samples = steady(50, 8)
    busy = [replace(one, tokens=5) if int(one.intended / 2) % 2 else one for one in samples]
    assert figures(busy, **PHASED)["busy_over_quiet_throughput"] == pytest.approx(0.5, rel=0.02)


def test_a_busy_phase_without_answers_does_not_drop_out():
    samples = [replace(one, verdict="late") if one.intended >= 6 else one for one in steady(50, 8)]
    found = figures(samples, **PHASED)
    assert found["busy_over_quiet_p99"] is None
    assert found["busy_over_quiet_throughput"] == pytest.approx(0.5, rel=0.02)  # of one and none


def test_a_phase_in_which_a_closed_loop_stood_still_counts():
    samples = [one for one in steady(50, 8) if one.intended < 6]
    held = scenario(**PHASED)
    (step,) = steps_of(held)
    stood = figures_of(held, [take_of(step, samples)])
    assert stood["busy_over_quiet_throughput"] == pytest.approx(0.5, rel=0.02)  # of one and none
    assert stood["busy_over_quiet_p99"] is None
    unasked = figures_of(held, [take_of(step, samples, rate=50.0)])
    assert unasked["busy_over_quiet_throughput"] == pytest.approx(1.0, rel=0.02)


def test_batches_of_a_sweep_are_those_of_its_last_step():
    held = scenario(sweep={"over": "adapters", "values": [1, 100]})
    counts = (replace(COUNTED, distinct_per_batch=1.0), replace(COUNTED, distinct_per_batch=9.0))
    takes = [take_of(step, steady(5, 12), counted=told) for step, told in zip(steps_of(held), counts, strict=True)]
    assert figures_of(held, takes)["distinct_per_batch"] == 9.0


def test_a_closed_loop_offers_nothing_to_be_fair_about():
    held = scenario(tenants=[{"name": "a"}, {"name": "b"}])
    (step,) = steps_of(held)
    samples = steady(5, 12, tenant="a") + steady(5, 12, tenant="b")
    assert figures_of(held, [take_of(step, samples)])["fairness"] is None
    assert figures_of(held, [take_of(step, samples, rate=10.0)])["fairness"] == pytest.approx(1.0)


def test_a_client_that_can_not_keep_up_makes_the_run_fail():
    held = scenario()
    (step,) = steps_of(held)
    slow = take_of(step, steady(50, 12), client=replace(CLIENT, sent_p99_ms=35.0))
    found = figures_of(held, [slow])
    assert found["client_lag_p99_ms"] == 35.0
    assert [check.figure for check in checks_of(held, found) if not check.holds] == ["client_lag_p99_ms"]


def test_without_metrics_batches_are_not_told():
    held = scenario()
    (step,) = steps_of(held)
    found = figures_of(held, [take_of(step, steady(50, 12), counted=None)])
    assert found["distinct_per_batch"] is None
    assert found["hit_ratio"] == 1
