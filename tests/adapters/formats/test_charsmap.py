import base64
import struct

import pytest
from tokenizers.normalizers import Precompiled

from adapters.formats import charsmap
from adapters.formats.charsmap import faults
from tests.adapters.formats.charsmaps import table


@pytest.mark.parametrize(
    ("key", "value"), [("q", "abc"), ("\ufdfa", "x" * 18), ("q", ""), ("\uff21", "A"), ("ab", "c")]
)
def test_a_table_that_makes_no_more_than_unicode_has_no_faults(key, value):
    assert faults(table(key, value)) == []


def test_the_tokenizer_reads_the_tables_of_these_tests_as_meant():
    assert Precompiled(base64.b64decode(table("\uff21", "xyz"))).normalize_str("a\uff21b") == "axyzb"


@pytest.mark.parametrize(
    ("key", "value"),
    [("q", "abcd"), ("q", "\ufdfa"), ("\ufdfa", "x" * 19), ("q", "x" * 255), ("q", "x" * 256), ("q", "x" * 100_000)],
)
def test_a_table_that_makes_more_is_refused_with_the_characters(key, value):
    assert f"makes more of {key!r}" in faults(table(key, value))[0]


def broken(change):
    data = bytearray(base64.b64decode(table("q", "r")))
    change(data)
    return base64.b64encode(bytes(data)).decode()


def units(place, value):
    return broken(lambda data: data.__setitem__(slice(4 + 4 * place, 8 + 4 * place), struct.pack("<I", value)))


CHILD = 256 ^ ord("q")


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "no base64!",
        base64.b64encode(b"\x00" * 8).decode(),
        broken(lambda data: data.__setitem__(slice(0, 4), struct.pack("<I", 1 << 30))),
        broken(lambda data: data.__setitem__(slice(0, 4), struct.pack("<I", 6))),
        units(0, 5000 << 10),
        units(CHILD, ord("q") | 1 << 8 | 5000 << 10),
        units(CHILD, ord("q") | 5000 << 10),
        units(512, 1 << 31 | 2),
        units(512, 1 << 31 | 1 << 30),
    ],
)
def test_a_broken_table_is_a_reason_and_never_an_exception(text):
    assert "precompiled_charsmap" in faults(text)[0]


def test_a_table_that_leads_back_to_itself_ends():
    assert "leads nowhere" in faults(units(CHILD, ord("q") | (CHILD ^ 256) << 10))[0]


def test_strings_that_share_their_ends_are_bounded(monkeypatch):
    monkeypatch.setattr(charsmap, "MAX_NODES", 2)
    assert faults(table("q", "r")) == []
    assert "leads nowhere" in faults(table("ab", "r"))[0]


def test_a_table_that_is_too_large_is_refused():
    data = struct.pack("<I", (1 << 20) + 4) + b"\x00" * ((1 << 20) + 8)
    assert "at most 1048576" in faults(base64.b64encode(data).decode())[0]
