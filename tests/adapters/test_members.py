from dataclasses import dataclass

import pytest

from adapters.errors import InvalidPackage
from adapters.members import (
    MAX_COUNT,
    MAX_TEXT,
    as_count,
    as_list,
    as_mapping,
    as_optional_count,
    as_text,
    members,
    one_of,
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
