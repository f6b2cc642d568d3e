from dataclasses import replace

import numpy as np
import pytest

from loadtests.trace import TraceSpec, make_texts, make_trace, zipf_weights

SPEC = TraceSpec(adapters=20, rate=50.0, requests=4000, duration=None, zipf_s=1.0, texts_per_adapter=3, seed=7)


def same(a, b):
    return (a.at == b.at).all() and (a.adapter == b.adapter).all() and (a.text == b.text).all()


def test_a_seed_gives_one_trace():
    assert same(make_trace(SPEC), make_trace(SPEC))
    assert not (make_trace(SPEC).at == make_trace(replace(SPEC, seed=8)).at).any()


def test_the_weight_of_a_rank_is_one_over_its_power():
    weights = zipf_weights(100, 1.2)
    assert weights.sum() == pytest.approx(1.0)
    ranks = np.arange(1, 101)
    assert np.allclose(weights / weights[0], 1 / ranks**1.2)


def test_s_of_zero_is_uniform():
    assert np.allclose(zipf_weights(8, 0.0), 1 / 8)


def test_drawn_popularity_follows_the_rank_law():
    trace = make_trace(replace(SPEC, requests=60_000))
    counts = np.sort(np.bincount(trace.adapter, minlength=20))[::-1] / 60_000
    assert np.allclose(counts, zipf_weights(20, 1.0), atol=0.006)


def test_the_popular_adapter_is_not_always_the_first_published():
    tops = {int(np.bincount(make_trace(replace(SPEC, seed=seed)).adapter).argmax()) for seed in range(12)}
    assert len(tops) > 3


def test_arrivals_are_a_poisson_process():
    gaps = np.diff(make_trace(replace(SPEC, requests=50_000)).at)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)  # exponential: deviation equals mean
    assert (gaps > 1 / 50).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_a_duration_ends_a_trace():
    trace = make_trace(replace(SPEC, requests=None, duration=20.0))
    assert trace.at[-1] < 20.0
    assert len(trace) == pytest.approx(1000, rel=0.15)
    assert set(trace.text) == {0, 1, 2}


@pytest.mark.parametrize(
    "change", [{"requests": None}, {"duration": 3.0}, {"rate": 0.0}, {"zipf_s": -1.0}, {"adapters": 0}]
)
def test_a_specification_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValueError):
        make_trace(replace(SPEC, **change))


def test_texts_vary_in_length_and_repeat_by_seed():
    texts = make_texts(200, seed=1)
    counts = [len(text.split()) for text in texts]
    assert texts == make_texts(200, seed=1)
    assert min(counts) >= 3
    assert max(counts) <= 96
    assert len(set(counts)) > 20
