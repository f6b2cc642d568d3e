import pytest
from pydantic import ValidationError

from loadtests.scenarios.reading import scenario_of
from loadtests.scenarios.steps import PLACES, WORDS, named, steps_of, turned

PLAIN = {"about": "a test", "arrivals": {"rate": 5}}


def test_nothing_swept_is_one_step():
    scenario = scenario_of(PLAIN, "x")
    (step,) = steps_of(scenario)
    assert (step.value, step.name, step.scenario) == (None, "", scenario)


def test_each_step_differs_in_the_knob_alone():
    scenario = scenario_of(PLAIN | {"sweep": {"over": "adapters", "values": [1, 50]}}, "x")
    first, second = steps_of(scenario)
    assert (first.scenario.adapters.count, second.scenario.adapters.count) == (1, 50)
    assert first.scenario.arrivals == second.scenario.arrivals == scenario.arrivals
    assert first.scenario.sweep is None


def test_another_kind_of_arrivals_takes_the_place_of_the_one_before():
    scenario = scenario_of(PLAIN, "x")
    assert turned(scenario, "load", 0.5).arrivals.rate is None
    assert turned(scenario, "closed", 8).arrivals.closed == 8


@pytest.mark.parametrize(
    ("knob", "value"), [("adapters", 0), ("closed", 1.5), ("law", "magic"), ("s", -1), ("device", "x")]
)
def test_a_value_that_the_knob_can_not_have_is_refused(knob, value):
    with pytest.raises(ValidationError):
        turned(scenario_of(PLAIN, "x"), knob, value)


def test_every_knob_has_a_place_and_words():
    assert PLACES.keys() == WORDS.keys()


def test_values_are_named_shortly():
    assert [named(value) for value in (None, 0.5, 10, 1.0, "zipf")] == ["", "0.5", "10", "1", "zipf"]
