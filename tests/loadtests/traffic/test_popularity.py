import numpy as np
import pytest

from loadtests.scenarios.values import Popularity
from loadtests.traffic.popularity import draw, weights


def drawn(popularity, count, at=None, seed=0):
    at = np.zeros(20_000) if at is None else at
    return draw(popularity, count, at, np.random.default_rng(seed))


def shares(numbers, count):
    return np.sort(np.bincount(numbers, minlength=count))[::-1] / len(numbers)


@pytest.mark.parametrize("law", ["zipf", "uniform", "power", "distinct", "identical", "sqrt", "geometric"])
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_weights_are_probabilities_most_popular_first(law, count):
    found = weights(law, count, 1.5)
    assert found.shape == (count,)
    assert found.sum() == pytest.approx(1.0)
    assert (np.diff(found) <= 1e-12).all()


def test_zipf_is_one_over_the_rank_to_the_s():
    found = weights("zipf", 100, 1.2)
    assert np.allclose(found / found[0], 1 / np.arange(1, 101) ** 1.2)


def test_power_is_what_s_lora_draws():
    rng = np.random.default_rng(0)
    for alpha in (0.1, 0.6, 1.0):
        theirs = np.sort(np.bincount((rng.power(alpha, 200_000) * 20).astype(int), minlength=20))[::-1] / 200_000
        assert np.allclose(theirs, weights("power", 20, alpha), atol=0.004)
    assert np.allclose(weights("power", 20, 1.0), 1 / 20)  # the trap: their alpha of 1 is no skew at all


def test_geometric_is_what_punica_counts():
    counts = weights("geometric", 256, 1.5) * 256
    assert np.allclose(sorted(counts[counts > 0])[:5], [1, 1.5, 2.25, 3.375, 5.0625])
    assert (counts > 0).sum() == 12


def test_sqrt_and_identical_ask_few():
    assert (weights("sqrt", 32, 1.0) > 0).sum() == 6
    assert weights("identical", 32, 1.0)[0] == 1.0


def test_drawn_popularity_follows_the_law():
    assert np.allclose(shares(drawn(Popularity("zipf", 1.0), 20), 20), weights("zipf", 20, 1.0), atol=0.01)


def test_distinct_asks_nobody_twice_before_everybody_was_asked():
    numbers = drawn(Popularity("distinct"), 50)
    assert all(len(set(numbers[start : start + 50])) == 50 for start in (0, 13, 5000))


def test_the_popular_one_is_not_always_the_first_published():
    tops = {int(np.bincount(drawn(Popularity("zipf", 2.0), 20, seed=seed)).argmax()) for seed in range(12)}
    assert len(tops) > 3


def test_drift_makes_others_popular_as_time_goes():
    at = np.repeat([0.0, 4.9, 5.1], 5000)
    numbers = drawn(Popularity("identical", drift_s=5.0), 30, at)
    first, still, then = (set(numbers[start : start + 5000]) for start in (0, 5000, 10_000))
    assert first == still
    assert first.isdisjoint(then)


def test_laws_without_meaning_are_refused():
    with pytest.raises(ValueError):
        weights("zipf", 0, 1.0)
    with pytest.raises(ValueError):
        weights("power", 5, 0.0)
