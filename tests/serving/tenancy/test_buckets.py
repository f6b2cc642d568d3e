import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tenancy.buckets import TokenBucket

AMOUNTS = st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 30)), max_size=60)  # (seconds later, amount)


def test_a_full_bucket_pays_its_burst_at_once_and_then_by_the_rate():
    bucket = TokenBucket(rate=2.0, burst=4.0, now=100.0)
    for _ in range(4):
        assert bucket.wait(1, 100.0) == 0
        bucket.take(1, 100.0)
    assert bucket.wait(1, 100.0) == 0.5
    assert bucket.wait(1, 100.5) == 0
    assert bucket.full_in(100.5) == 1.5


def test_the_wait_that_is_told_is_exactly_long_enough():
    bucket = TokenBucket(rate=3.0, burst=7.0, now=0.0)
    bucket.take(6.5, 0.0)
    wait = bucket.wait(4.0, 0.0)
    assert bucket.wait(4.0, wait * 0.999) > 0
    assert bucket.wait(4.0, wait) == 0


def test_an_amount_over_the_burst_takes_a_full_bucket_and_is_worked_off():
    bucket = TokenBucket(rate=1.0, burst=5.0, now=0.0)
    bucket.take(1, 0.0)
    assert bucket.wait(20, 0.0) == 1.0
    bucket.take(20, 1.0)
    assert bucket.level(1.0) == -15.0
    assert bucket.wait(1, 1.0) == 16.0
    assert bucket.full_in(1.0) == 20.0


def test_a_refund_never_makes_more_than_the_burst():
    bucket = TokenBucket(rate=1.0, burst=5.0, now=0.0)
    bucket.take(2, 0.0)
    bucket.refund(2, 1.0)
    assert bucket.level(1.0) == 5.0
    bucket.check()


def test_a_clock_that_stands_or_goes_back_gives_nothing():
    bucket = TokenBucket(rate=100.0, burst=5.0, now=1000.0)
    bucket.take(5, 1000.0)
    assert [bucket.level(now) for now in (1000.0, 400.0, 999.0)] == [0.0] * 3
    assert bucket.level(1000.01) == pytest.approx(1.0)


def test_what_was_spent_stays_spent_when_the_rate_changes():
    bucket = TokenBucket(rate=10.0, burst=10.0, now=0.0)
    bucket.take(8, 0.0)
    bucket.tune(5.0, 5.0, 0.0)
    assert bucket.level(0.0) == -3.0
    bucket.tune(20.0, 20.0, 0.0)
    assert bucket.level(0.0) == 12.0
    full = TokenBucket(rate=1.0, burst=1.0, now=0.0)
    full.tune(4.0, 4.0, 0.0)
    assert full.level(0.0) == 4.0


def test_a_rate_of_nothing_never_pays():
    bucket = TokenBucket(rate=0.0, burst=0.0, now=0.0)
    assert bucket.wait(1, 1e9) == math.inf
    assert TokenBucket(0.0, 1.0, 0.0).full_in(0.0) == 0.0


@given(AMOUNTS)
def test_in_any_span_no_more_is_spent_than_burst_and_rate_allow(spending):
    """Whatever is asked for when: what was let through up to any moment is within burst + rate x time + one amount."""
    rate, burst = 2.0, 6.0
    bucket, now, spent, largest = TokenBucket(rate, burst, 0.0), 0.0, 0.0, 0.0
    for later, amount in spending:
        now += later
        if bucket.wait(amount, now) == 0:
            bucket.take(amount, now)
            spent, largest = spent + amount, max(largest, amount - burst)
        assert spent <= burst + rate * now + max(0.0, largest) + 1e-6
        bucket.check()
