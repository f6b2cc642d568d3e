import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.api.body import MAX_DEPTH, parse_json
from serving.errors import BadRequest

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def refused(raw: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_json(raw)
    assert caught.value.code == "malformed_json"
    return caught.value.detail


@given(values, st.booleans())
def test_every_good_value_comes_through_unchanged(value, ascii_only):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
@example(b'{"a":1,"a":1}')
@example(b"\xef\xbb\xbf{}")
@example(b'"\\ud83d\\ude00"')
def test_bytes_are_parsed_as_json_does_or_refused(raw):
    try:
        value = parse_json(raw)
    except BadRequest as error:
        assert error.status == 400
    else:
        assert value == json.loads(raw)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '{"a": [NaN]}'])
def test_numbers_that_json_lacks_are_refused(text):
    refused(text.encode())


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "\\u0061": 1}}'])
def test_a_member_given_twice_is_refused_by_name(text):
    assert "'a' is given twice" in refused(text.encode())


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udfff": 1}', '[["x\\uD83D y"]]', '{"a": ["\\ude00\\ud83d"]}'])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(text):
    assert "surrogate" in refused(text.encode())


def test_a_whole_surrogate_pair_is_a_letter():
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_bounded(opening, closing):
    def nested(depth: int) -> bytes:
        return (opening * depth + "1" + closing * depth).encode()

    parse_json(nested(MAX_DEPTH))
    assert "deeper" in refused(nested(MAX_DEPTH + 1))
    assert "deeper" in refused(nested(100_000))


@pytest.mark.parametrize(
    "raw",
    [b"", b" ", b"{", b"{'a': 1}", b"[1,]", b'{"a" 1}', b"1 2", b"\xff", b'"\x00"', b"9" * 5000, b"\xef\xbb\xbf1"],
)
def test_what_is_not_json_is_refused(raw):
    refused(raw)


def test_a_refusal_does_not_repeat_a_long_member_name():
    name = "secret" * 1000
    assert len(refused(f'{{"{name}": 1, "{name}": 1}}'.encode())) < 200


def test_large_but_finite_numbers_stay():
    assert parse_json(b"[1e308, 123456789012345678901234567890]") == [1e308, 123456789012345678901234567890]
    assert math.isfinite(parse_json(b"-0.0"))
