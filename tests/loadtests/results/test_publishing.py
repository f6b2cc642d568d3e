import pytest

from loadtests.results.publishing import publish_times, publishing_figures
from loadtests.scenarios.steps import steps_of
from tests.loadtests.fake import published, scenario, steady, take_of

PHASES = {"seconds": 12.0, "warmup_s": 2.0, "phase_s": 3.0}


def figures(every, **changes):
    held = scenario(publishing={"per_s": 2.0}, **changes)
    (step,) = steps_of(held)
    return publishing_figures(held, [take_of(step, steady(5, 12), published=every)])


def test_publishes_keep_to_a_clock_and_never_to_the_warm_up():
    times = publish_times(scenario(publishing={"per_s": 2.0}))
    assert len(times) == 20
    assert (times[0], times[-1]) == (2.25, 11.75)
    assert publish_times(scenario()) == ()


def test_with_phases_they_fall_into_the_busy_ones():
    times = publish_times(scenario(publishing={"per_s": 2.0}, time=PHASES))
    assert len(times) == 12
    assert all(5 <= at < 8 or 11 <= at < 14 for at in times)


def test_rates_and_waits_are_those_of_acknowledged_ones():
    every = [published(2 + n / 2) for n in range(18)] + [
        published(11.0, status=503, verdict="failed", answered=None)
    ] * 2
    found = figures(every)
    assert found["published_per_s"] == pytest.approx(1.8)
    assert found["publish_failed"] == 2
    assert found["publish_p99_ms"] == pytest.approx(50)
    assert found["first_answer_p50_ms"] == pytest.approx(100)


def test_the_rate_is_that_of_busy_phases():
    assert figures([published(5.5)] * 12, time=PHASES)["published_per_s"] == pytest.approx(2.0)


def test_what_is_acknowledged_after_its_phase_does_not_count():
    every = [published(7.9, wait=0.05), published(7.9, wait=0.5), published(7.9, wait=60.0), published(13.5)]
    assert figures(every, time=PHASES)["published_per_s"] == pytest.approx(2 / 6)
    assert figures([published(11.9, wait=0.5)])["published_per_s"] == 0


def test_a_phase_that_is_not_whole_does_not_count():
    times = {"seconds": 11.0, "warmup_s": 2.0, "phase_s": 3.0}
    assert figures([published(5.5), published(11.5)], time=times)["published_per_s"] == pytest.approx(1 / 3)


def test_nothing_to_publish_is_no_figure():
    assert publishing_figures(scenario(), []) == {}
    assert figures([])["first_answer_p50_ms"] is None
