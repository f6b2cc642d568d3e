import numpy as np
import pytest

from loadtests.traffic.arrivals import arrivals, by_day, gaps, is_busy


def made(seconds, cv, rate, seed=0):
    return arrivals(seconds, cv, rate, np.random.default_rng(seed))


def steady(rate):
    return lambda at: np.full(len(at), float(rate))


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0])
def test_gaps_have_mean_and_variation(cv):
    found = gaps(400_000, cv, np.random.default_rng(1))
    assert found.mean() == pytest.approx(1.0, rel=0.03)
    assert found.std() / found.mean() == pytest.approx(cv, rel=0.05)


def test_a_poisson_process_has_exponential_gaps():
    found = np.diff(made(1000.0, 1.0, steady(50)))
    assert found.min() > 0
    assert found.mean() == pytest.approx(1 / 50, rel=0.02)
    assert (found > 1 / 50).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_a_clock_has_no_variation_and_loses_no_stroke():
    at = made(10.0, 0.0, steady(4))
    assert len(at) == 40
    assert np.allclose(np.diff(at), 0.25)


@pytest.mark.parametrize("cv", [0.0, 1.0, 8.0])
def test_times_lie_in_the_run_and_are_sorted(cv):
    at = made(3.0, cv, steady(200))
    assert at.min() >= 0
    assert at.max() < 3.0
    assert (np.diff(at) >= 0).all()


def test_the_rate_of_a_day_is_least_at_night_and_the_mean_stays():
    rate = by_day(100.0, 0.8, 1, 100.0)
    at = made(100.0, 1.0, rate)
    assert len(at) == pytest.approx(10_000, rel=0.04)
    night, noon = (at < 5).sum() + (at > 95).sum(), ((at > 45) & (at < 55)).sum()
    assert noon / night == pytest.approx(1.8 / 0.2, rel=0.25)


def test_bursts_stay_bursts_while_the_rate_changes():
    at = made(400.0, 4.0, by_day(100.0, 0.5, 4, 400.0))
    busy = np.bincount(at.astype(int), minlength=400)
    assert busy.var() / busy.mean() > 8  # of a Poisson process it would be about 1


def test_nobody_asks_where_the_rate_is_nothing():
    at = made(10.0, 1.0, lambda when: 100.0 * ((when > 2) & (when < 3)))
    assert 60 < len(at) < 140
    assert at.min() >= 2
    assert at.max() <= 3.01
    assert len(made(10.0, 1.0, steady(0))) == 0


def test_phases_take_turns_after_the_warm_up():
    at = np.array([0.0, 2.9, 3.0, 7.9, 8.0, 12.9, 13.0, 18.0])
    assert is_busy(at, 3.0, 5.0).tolist() == [False, False, False, False, True, True, False, True]
    assert not is_busy(at, 3.0, 0.0).any()
