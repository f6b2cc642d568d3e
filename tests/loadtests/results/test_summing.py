from itertools import pairwise

import pytest

from loadtests.results.summing import by_tenant, found, sums_of, waits_of
from tests.loadtests.fake import sample, steady


def test_percentiles_are_of_right_answers_alone():
    samples = [sample(n, wait=(n + 1) / 1000) for n in range(100)] + [sample(0, wait=99.0, verdict="late")]
    waits = waits_of(samples)
    assert waits.count == 100
    assert waits.p50 == pytest.approx(50.5)
    assert waits.p99 == pytest.approx(99.01)
    assert waits.max == pytest.approx(100)
    assert waits.curve == ()


def test_without_answers_there_are_no_waits():
    assert waits_of([sample(verdict="failed")]).p50 is None
    assert found([]) == {}


def test_the_curve_ends_where_there_are_no_more_answers():
    curve = waits_of([sample(n, wait=(n + 1) / 1000) for n in range(1000)], curve=True).curve
    assert curve[0] == (0.0, pytest.approx(1.0))
    assert curve[-1][0] == pytest.approx(0.999)
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(curve))


def test_requests_count_when_they_were_due_and_answers_when_they_came():
    samples = [
        sample(0.9, wait=0.2),
        sample(0.95, wait=0.2),
        sample(1.5, wait=0.1),
        sample(1.9, wait=0.5),
        sample(1.2, 0.1, "refused", detail="503 busy"),
    ]
    sums = sums_of(samples, 1.0, 2.0)
    assert (sums.requests, dict(sums.verdicts), dict(sums.details)) == (3, {"right": 2, "refused": 1}, {"503 busy": 1})
    assert sums.offered_per_s == 3
    assert sums.right_per_s == 3  # two were due before, and one of the others is answered after
    assert sums.waits.count == 2


def test_rates_are_per_second_of_rows_and_tokens():
    sums = sums_of(steady(50, 4, rows=8, tokens=100), 1.0, 3.0)
    assert (sums.offered_per_s, sums.rows_per_s, sums.tokens_per_s) == (50, 400, 5000)
    assert sums.adapters == 1


def test_a_request_is_as_slow_as_its_slowest_package():
    right = [sample(tiers=("device", "host")), sample(), sample(tiers=("disk", "device")), sample()]
    assert found(right) == {"device": 0.5, "host": 0.25, "disk": 0.25}


def test_tenants_are_told_apart():
    apart = by_tenant([sample(tenant="a"), sample(tenant="b"), sample(tenant="a")])
    assert {name: len(own) for name, own in apart.items()} == {"a": 2, "b": 1}
