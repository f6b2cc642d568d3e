from dataclasses import dataclass

import pytest

from adapters.errors import InvalidPackage
from adapters.members import (
    MAX_COUNT,
    MAX_INTEGER,
    MAX_TEXT,
    as_count,
    as_list,
    as_mapping,
    as_optional_count,
    as_route,
    as_text,
    members,
    one_of,
    parse,
)


@dataclass(frozen=True)
class Shape:
    width: int
    name: str = ""


def test_good_values_come_back_as_they_are():
    assert members({"width": 3}, Shape, "x", required=("width",)) == {"width": 3}
    assert as_mapping({"a": 1}, "x") == {"a": 1}
    assert as_list([1], "x") == [1]
    assert as_text("a" * MAX_TEXT, "x") == "a" * MAX_TEXT
    assert as_count(MAX_COUNT, "x") == MAX_COUNT
    assert as_optional_count(None, "x") is None
    assert as_optional_count(4, "x") == 4
    assert one_of("b", ("a", "b"), "x") == "b"


def test_every_unknown_and_missing_member_is_named():
    with pytest.raises(InvalidPackage, match=r"here: unknown 'depth', unknown 'size', no 'width'"):
        members({"size": 1, "depth": 2}, Shape, "here", required=("width",))


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (as_mapping, [1]),
        (as_list, (1,)),
        (as_text, "a" * (MAX_TEXT + 1)),
        (as_text, 1),
        (as_count, 0),
        (as_count, True),
        (as_count, 1.0),
        (as_count, MAX_COUNT + 1),
        (as_optional_count, -1),
    ],
)
def test_what_is_of_another_kind_is_refused_naming_the_member(check, value):
    with pytest.raises(InvalidPackage, match="here"):
        check(value, "here")


@pytest.mark.parametrize("value", ["c", None, 1])
def test_other_words_are_refused_naming_the_allowed_ones(value):
    with pytest.raises(InvalidPackage, match=r"here .* is none of a, b"):
        one_of(value, ("a", "b"), "here")


def test_json_is_parsed_with_numbers_as_they_are():
    text = f'{{"a": [1, -2.5, true, null, {{"b": {MAX_INTEGER}}}], "c": "1e999"}}'
    assert parse(text, "here") == {"a": [1, -2.5, True, None, {"b": MAX_INTEGER}], "c": "1e999"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"b": [0, 1e999]}}', r"here: a\.b\.1 is too large a number"),
        ('{"a": -1e999}', r"here: a is too large a number"),
        (f"[[{10**400}]]", r"here: 0\.0 is an integer of more than 64 bits"),
        (f'{{"a": {-(10**19)}}}', "here: a is an integer of more than 64 bits"),
        ("1e999", "here: the value is too large"),
        ('{"a": NaN}', "here is not JSON: NaN is no JSON number"),
        ("{", "here is not JSON"),
        ("[" * 100_000, "here is not JSON"),
        ("9" * 5000, "here is not JSON"),
    ],
)
def test_numbers_that_no_one_can_hold_are_refused_by_their_place(text, said):
    with pytest.raises(InvalidPackage, match=said):
        parse(text, "here")


def test_a_place_is_spelled_in_bounded_space():
    deep = '{"k": ' * 400 + "1e999" + "}" * 400
    wide = '{"' + "x" * 100_000 + '": [' + "[1e999]," * 1000 + "1]}"
    for text in (deep, wide):
        with pytest.raises(InvalidPackage) as caught:
            parse(text, "here")
        assert len(str(caught.value)) < 3000


def test_a_route_is_a_list_of_layers_or_nothing():
    assert (as_route([2, 0, 0], "route"), as_route(None, "route")) == ((2, 0, 0), None)
    for value in ([], 3, "012", [0, -1], [0, True], [0.0], [MAX_COUNT + 1]):
        with pytest.raises(InvalidPackage, match="route"):
            as_route(value, "route")
