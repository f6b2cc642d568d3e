import pytest

from serving.errors import BadRequest
from serving.registry.records import Once, is_public, owner_of

ASKED = {"method": "PUT", "path": "/v1/adapters/ada", "query": "promote=true", "digest": "sha256:1"}


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("public/sentiment", "public"),
        ("public", "public"),
        ("publics/sentiment", "acme"),
        ("sentiment/public", "acme"),
        ("public.x/y", "acme"),
    ],
)
def test_a_name_is_public_by_its_first_segment(name, owner):
    assert owner_of("acme", name) == owner
    assert is_public(name) == (owner == "public")


def test_what_is_asked_for_twice_is_told_by_everything_that_it_says():
    first = Once.of("k", **ASKED)
    assert first == Once.of("k", **ASKED)
    assert Once.of("other", **ASKED).fingerprint == first.fingerprint
    for changed, value in ASKED.items():
        assert Once.of("k", **{**ASKED, changed: f"{value}x"}) != first


def test_what_stands_in_one_part_does_not_reach_into_the_next():
    moved = {**ASKED, "path": "/v1/adapters/ada\npromote=true", "query": ""}
    assert Once.of("k", **moved) != Once.of("k", **ASKED)


@pytest.mark.parametrize("key", ["", "x" * 129, "tab\t", "null\0", "grün"])
def test_a_key_is_printable_and_short(key):
    with pytest.raises(BadRequest, match="1 to 128 printable") as caught:
        Once.of(key, **ASKED)
    assert caught.value.code == "invalid_idempotency_key"
    assert Once.of("x" * 128, **ASKED).key == "x" * 128
