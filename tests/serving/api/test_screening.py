import pytest

from serving.api.naming import named
from serving.api.screening import MOST_MEMBERS, screen, screen_composition
from serving.config import Limits
from serving.errors import ServiceError

LIMITS = Limits(max_inputs=3, max_rows=5, max_input_characters=10)


def refusal(**body) -> tuple[int, str, str]:
    with pytest.raises(ServiceError) as caught:
        screen(body, LIMITS)
    return caught.value.status, caught.value.code, caught.value.faults[0].pointer


def test_what_is_within_the_limits_passes():
    screen({"inputs": "a", "adapters": None}, LIMITS)
    screen({"inputs": ["a", {"choices": ["x", "y", "z"]}, {"words": ["w"] * 10}], "adapters": ["a"] * 32}, LIMITS)
    screen({"inputs": {"choices": ["x"] * 5}, "parameters": {"targets": ["x"] * MOST_MEMBERS}}, LIMITS)


@pytest.mark.parametrize("body", [None, 1, "x", [], [{}], {}, {"inputs": None, "parameters": 3, "adapters": 7}])
def test_what_is_of_another_shape_is_left_to_the_model(body):
    screen(body, LIMITS)


def test_too_much_of_anything_is_refused_with_a_pointer():
    assert refusal(inputs=["a"] * 4) == (413, "too_many_inputs", "/inputs")
    assert refusal(inputs=["a", {"choices": ["x"] * 5}]) == (413, "too_many_rows", "/inputs")
    assert refusal(inputs={"words": [""] * 11}) == (422, "too_long", "/inputs")
    assert refusal(inputs="a", parameters={"targets": [""] * (MOST_MEMBERS + 1)})[2] == "/parameters/targets"


@pytest.mark.parametrize(
    "adapters",
    [
        ["a"] * 161,
        "+".join(["a"] * 33),
        {"stack": [{"average": ["a"] * 200}]},
        {"average": ["a"] * 200, "weights": [1.0] * 200},
        [[["a"] * 100] * 2],
    ],
)
def test_a_composition_with_too_many_members_is_refused_by_counting(adapters):
    with pytest.raises(ServiceError) as caught:
        screen_composition(adapters)
    assert (caught.value.status, caught.value.code) == (422, "invalid_composition")


def test_no_composition_that_could_be_read_is_refused():
    widest = {"stack": [{"fuse": [["a", "b", "c", "d"]] * 8, "name": "f"}]}
    for adapters in (widest, ["a"] * 32, "+".join(["a"] * 32), {"parallel": [["a"]] * 32}):
        screen_composition(adapters)
        named(adapters)


def test_half_a_million_of_anything_is_counted_before_a_model_or_a_reference_is_made_of_it(client, monkeypatch):
    monkeypatch.setattr("serving.api.selection.named", lambda *_: pytest.fail("names were read"))
    many = 500_000
    for body, code in (  # a model would say that these members are of a wrong type: invalid_value
        ({"inputs": [0] * many}, "too_many_inputs"),
        ({"inputs": "i", "adapters": ["a"] * 400_000}, "invalid_composition"),
        ({"inputs": 0, "adapters": "+".join(["a"] * many)}, "invalid_composition"),
        ({"inputs": {"words": [0] * many}}, "too_long"),
        ({"inputs": {"text": 0, "choices": [0] * many}}, "too_many_rows"),
    ):
        response = client.post("/v1/predict", json=body)
        assert response.json()["code"] == code
        assert len(response.content) < 2000


def test_a_list_of_wrong_words_is_one_fault(client):
    body = {"inputs": {"words": [0] * 90_000}, "adapters": "a"}
    response = client.post("/v1/predict", json=body)
    assert (response.status_code, len(response.json()["errors"])) == (422, 1)
