from typing import get_args

import pytest

from loadtests.scenarios.values import Adapters, Method, Threshold
from loadtests.synthetic import CONFIGS


def test_a_scenario_may_name_every_method_that_can_be_made():
    assert get_args(Method) == tuple(CONFIGS)


def test_the_first_adapters_have_many_texts_and_most_have_few():
    wanted = Adapters(count=1000)
    assert [wanted.texts_of(number) for number in (0, 7, 15, 99, 999)] == [64, 64, 32, 5, 4]
    assert Adapters(count=1000, texts=3).texts_of(0) == 3


@pytest.mark.parametrize(
    ("threshold", "value", "holds"),
    [
        (Threshold("p50_ms", at_most=5.0), 5.0, True),
        (Threshold("p50_ms", at_most=5.0), 5.1, False),
        (Threshold("p50_ms", at_most=0.0), 0.1, False),
        (Threshold("hit_ratio", at_least=0.5), 0.5, True),
        (Threshold("hit_ratio", at_least=0.5), 0.4, False),
        (Threshold("p50_ms", at_most=5.0), None, False),
        (Threshold("p50_ms", at_most=5.0), float("nan"), False),
    ],
)
def test_a_threshold_holds_at_its_bound_and_never_for_what_was_not_measured(threshold, value, holds):
    assert threshold.holds(value) is holds
