from typing import Any

import pytest
from pydantic import ConfigDict, Field, ValidationError

from serving.api.strict import Strict


class Inner(Strict):
    size: int = 1


class Outer(Strict):
    inputs: str
    adapters: str = ""
    inner: Inner | bool = False
    several: list[Inner] = Field(default=[])


def faults(value: dict[str, Any], model: type[Strict] = Outer) -> dict[tuple, tuple[str, str]]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(value)
    return {fault["loc"]: (fault["type"], fault["msg"]) for fault in refused.value.errors()}


def test_a_misspelt_member_is_told_with_the_nearest_and_all_that_there_are():
    kind, told = faults({"inputs": "x", "adapter": "y"})["adapter",]
    assert kind == "extra_forbidden"
    assert told == "no such member; did you mean 'adapters'? the members are inputs, adapters, inner, several"


def test_what_is_like_no_member_is_told_with_the_members_alone():
    _, told = faults({"inputs": "x", "zzz": "y"})["zzz",]
    assert told == "no such member; the members are inputs, adapters, inner, several"
    _, told = faults({"inputs": "x", "adapters" * 1000: 1})["adapters" * 1000,]
    assert len(told) < 120


def test_the_other_faults_of_a_body_stay_what_they_are():
    assert faults({"model": "x", "adapters": 5}) == {
        ("inputs",): ("missing", "Field required"),
        ("adapters",): ("string_type", "Input should be a valid string"),
        ("model",): ("extra_forbidden", "no such member; the members are inputs, adapters, inner, several"),
    }


def test_a_member_of_a_member_is_told_with_those_of_its_own_model():
    told = faults({"inputs": "x", "inner": {"sise": 2}, "several": [{}, {"sizes": 1}], "odd": 1})
    near = "no such member; did you mean 'size'? the members are size"
    assert told["several", 1, "sizes"] == ("extra_forbidden", near)
    assert [said for loc, said in told.items() if (loc[0], loc[-1]) == ("inner", "sise")] == [("extra_forbidden", near)]
    assert "inputs, adapters" in told["odd",][1]


def test_a_name_with_braces_is_no_template():
    assert ("{x}",) in faults({"inputs": "x", "{x}": 1})


def test_a_model_with_more_of_its_own_configuration_is_as_strict():
    class Frozen(Strict):
        model_config = ConfigDict(strict=True, frozen=True)
        size: int

    assert "the members are size" in faults({"size": 1, "sizes": 2}, Frozen)["sizes",][1]
    assert faults({"size": "1"}, Frozen)["size",][0] == "int_type"


def test_over_http_the_pointer_leads_to_the_member(client):
    answer = client.post("/v1/predict", json={"inputs": "x", "parameters": {"topk": 1}}).json()
    assert answer["errors"][0]["pointer"] == "/parameters/topk"
    assert "did you mean 'top_k'?" in answer["errors"][0]["detail"]
    gate = client.put("/v1/adapters/tone/aliases/prod", json={"version": 1, "gate": {"inputs": "x"}}).json()
    assert {fault["pointer"]: fault["detail"] for fault in gate["errors"]}["/gate/inputs"] == (
        "no such member; did you mean 'input'? the members are input, parameters"
    )
