from itertools import pairwise

import pytest

from loadtests.results.windows import blocks_of, pairs_of, phases_of, windows_of
from loadtests.scenarios.values import Times
from tests.loadtests.fake import sample, steady


def test_windows_cover_the_load_and_lose_nothing():
    samples = steady(50, 20, wait=0.001)
    windows = windows_of(samples, 20.0)
    assert (windows[0].start, windows[-1].end, len(windows)) == (0.0, 20.0, 40)
    assert sum(window.offered_per_s * (window.end - window.start) for window in windows) == pytest.approx(1000)
    assert all(a.end == b.start for a, b in pairwise(windows))


def test_a_stall_shows_in_the_window_in_which_requests_were_due():
    samples = steady(100, 4, lambda at: 1.0 if 1.0 <= at < 1.5 else 0.01)
    windows = windows_of(samples, 4.0)
    slow = [window.start for window in windows if window.waits.p50 > 500]
    assert slow == [1.0]
    assert windows[2].right_per_s < 10
    assert windows[4].right_per_s > 150  # where the answers came


def test_what_comes_after_the_load_is_in_no_window():
    windows = windows_of([sample(0.9, wait=5.0)], 1.0)
    assert sum(window.right_per_s for window in windows) == 0
    assert windows[-1].waits.p50 == pytest.approx(5000)


def test_short_loads_have_few_windows_and_long_ones_a_bounded_number():
    assert len(windows_of([sample()], 0.2)) == 1
    assert len(windows_of([sample()], 500.0)) == 60


def test_windows_tell_tenants_and_tiers():
    samples = steady(10, 1, tenant="a", rows=3) + steady(10, 1, tenant="b", tiers=("host",))
    (first, _) = windows_of(samples, 1.0)
    assert first.tenants == {"a": pytest.approx(30), "b": pytest.approx(10)}
    assert first.found == {"device": 0.5, "host": 0.5, "disk": 0.0}


def test_phases_begin_quiet_after_the_warm_up_and_only_whole_ones_count():
    phases = phases_of(steady(10, 14), Times(seconds=11.0, warmup_s=2.0, phase_s=3.0))
    assert [(phase.start, phase.end, phase.busy) for phase in phases] == [(2, 5, False), (5, 8, True), (8, 11, False)]
    assert [(a.start, b.start) for a, b in pairs_of(phases)] == [(2, 5)]
    assert phases_of(steady(10, 14), Times(seconds=11.0)) == ()


def test_what_a_busy_phase_left_to_do_counts_for_no_quiet_one():
    phases = phases_of(steady(10, 14), Times(seconds=12.0, warmup_s=2.0, phase_s=3.0, settle_s=1.0))
    assert [(phase.start, phase.end) for phase in phases] == [(2, 5), (5, 8), (9, 11), (11, 14)]
    assert phases[2].sums.seconds == 2
    assert phases[2].sums.offered_per_s == 10


def test_blocks_are_equal_parts_of_what_is_measured():
    blocks = blocks_of(steady(100, 12), Times(seconds=10.0, warmup_s=2.0))
    assert len(blocks) == 5
    assert all(block == (pytest.approx(100), pytest.approx(10), pytest.approx(10)) for block in blocks)
