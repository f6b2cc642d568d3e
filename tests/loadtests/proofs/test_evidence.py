import math

import pytest

from loadtests.proofs.evidence import Evidence, Figure, percentile, spread


@pytest.mark.parametrize(
    ("value", "bound", "holds"),
    [(3, "=", True), (2, "=", False), (3, "<=", True), (4, "<=", False), (3, ">=", True), (2, ">=", False)],
)
def test_a_figure_holds_within_its_bound(value, bound, holds):
    assert Figure("x", value, bound, 3, "s").holds is holds


@pytest.mark.parametrize("bound", ["=", "<=", ">="])
def test_what_was_not_measured_holds_nowhere(bound):
    assert not Figure("x", float("nan"), bound, 3, "s").holds


def test_one_figure_that_does_not_hold_breaks_the_promise():
    good, bad = Figure("a", 1, "=", 1, "s"), Figure("b", 2, "=", 1, "s")
    assert Evidence("p", 0, (good,)).holds
    assert not Evidence("p", 0, (good, bad)).holds
    assert Evidence("p", 0, (good, bad)).broken == (bad,)
    assert not Evidence("p", 0, ()).holds


def test_the_json_tells_every_figure_with_its_bound():
    told = Evidence("p", 7, (Figure("a", 1, "<=", 2, "s"),), {"more": 3}).json()
    assert told["proof"] == "p"
    assert told["seed"] == 7
    assert told["holds"] is True
    assert told["figures"] == [{"name": "a", "value": 1, "bound": "<=", "limit": 2, "unit": "s", "holds": True}]
    assert told["seen"] == {"more": 3}


def test_a_percentile_is_a_value_that_was_seen():
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert percentile(values, 0.5) == 3.0
    assert percentile(values, 0.99) == 5.0
    assert percentile(values, 0.0) == 1.0
    assert math.isnan(percentile([], 0.5))


def test_a_spread_tells_how_many_values_and_how_they_lie():
    assert spread([1.0, 2.0, 3.0]) == {"count": 3, "p50": 2.0, "p99": 3.0, "max": 3.0}
    assert spread([])["count"] == 0
