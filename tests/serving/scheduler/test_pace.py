"""The bound of a step: what this machine does in the wanted time."""

import pytest

from serving.scheduler.pace import START_TOKENS, Pace

LAYERS = 2


def machine(tokens, per_s=10_000, overhead=0.005):
    """Seconds of a step on a machine with a fixed cost per step."""
    return overhead + tokens / per_s


def run(pace, tokens, full=False, **options):
    pace.learn(LAYERS * tokens, machine(tokens, **options), full=full)


def test_nothing_is_known_before_the_first_step():
    pace = Pace(LAYERS, 0.05)
    assert (pace.rate, pace.tokens, pace.seconds(100)) == (0.0, START_TOKENS, None)


def test_a_rate_that_was_measured_before_bounds_the_first_step_and_is_corrected_by_it():
    pace = Pace(LAYERS, 0.05, 4_000.0)
    assert (pace.tokens, pace.seconds(400)) == (100, 0.1)
    run(pace, pace.tokens)
    assert 4_000 < pace.rate < LAYERS * 100 / machine(100)


def test_steps_become_as_long_as_wanted():
    pace = Pace(LAYERS, 0.05)
    for _ in range(40):
        run(pace, pace.tokens)
    assert machine(pace.tokens) == pytest.approx(0.05, rel=0.02)
    assert pace.seconds(pace.rate) == 1.0


def test_a_first_small_step_does_not_keep_later_ones_small():
    pace = Pace(LAYERS, 0.05)
    run(pace, 8)
    assert pace.tokens < 100
    for _ in range(30):
        run(pace, pace.tokens)
    assert pace.tokens > 400


def test_small_steps_of_a_quiet_hour_say_nothing_of_full_ones():
    pace = Pace(LAYERS, 0.05)
    for _ in range(40):
        run(pace, pace.tokens)
    known = pace.tokens
    for _ in range(1000):
        run(pace, 8)
    assert pace.tokens == known


def test_a_machine_that_slows_down_gets_shorter_steps():
    pace = Pace(LAYERS, 0.05)
    for slow in (1, 5):
        for _ in range(40):
            run(pace, pace.tokens, per_s=10_000 / slow, overhead=0.005 * slow)
    assert machine(pace.tokens, 2_000, 0.025) == pytest.approx(0.05, rel=0.05)


def test_a_batch_that_was_full_of_short_rows_tells_the_rate_as_well():
    pace = Pace(LAYERS, 0.05)
    for _ in range(40):
        run(pace, 450)
    before = pace.rate
    run(pace, 50, full=True)
    assert pace.rate < before


def test_one_token_may_always_run():
    pace = Pace(LAYERS, 0.05)
    pace.learn(LAYERS * 4, 60.0, full=True)
    assert pace.tokens == 1


def test_what_took_no_time_teaches_nothing():
    pace = Pace(LAYERS, 0.05)
    pace.learn(100, 0.0, full=True)
    pace.learn(0, 1.0, full=True)
    assert pace.rate == 0.0
