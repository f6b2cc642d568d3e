import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import InvalidName
from adapters.refs import AdapterRef, Reference, parse_alias, parse_name, parse_reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize("name", ["a", "a1", "sentiment/sst-2", "x.y_z-0", "a" * 63, f"{'a' * 63}/{'b' * 63}"])
def test_names_that_are_good(name):
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "-a",
        "a-",
        "a//b",
        "a/b/c",
        "/a",
        "a/",
        "a b",
        "ä",
        "a" * 64,
        "..",
        "a/../b",
        "a@b",
        "a\n",
        "a%2fb",
        "a\x00",
    ],
)
def test_names_that_are_refused(name):
    with pytest.raises(InvalidName):
        parse_name(name)


@pytest.mark.parametrize("name", ["base", "a/aliases", "a/versions"])
def test_reserved_names_are_refused_by_name(name):
    with pytest.raises(InvalidName, match="reserved"):
        parse_name(name)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a", Reference("a")),
        ("a@7", Reference("a", version=7)),
        ("a@prod", Reference("a", alias="prod")),
        ("sentiment/sst-2@ukp", Reference("sentiment/sst-2", alias="ukp")),
        (f"a@{DIGEST}", Reference("a", digest=DIGEST)),
    ],
)
def test_references_parse_and_print_back(text, reference):
    assert parse_reference(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "text", ["a@", "a@0", "a@-1", "a@9999999999", "a@sha256:xyz", "a@b@c", "@a", "a@PROD", "a@" + DIGEST.upper()]
)
def test_references_that_are_refused(text):
    with pytest.raises(InvalidName):
        parse_reference(text)


@pytest.mark.parametrize("alias", ["7", "", "sha256:0", "a/b"])
def test_aliases_that_would_read_as_something_else_are_refused(alias):
    with pytest.raises(InvalidName):
        parse_alias(alias)


@given(st.text(max_size=80))
def test_any_text_parses_or_is_refused_by_name(text):
    try:
        assert str(parse_reference(text)).startswith(text.split("@", maxsplit=1)[0])
    except InvalidName as error:
        assert str(error)


def test_the_cache_key_is_tenant_and_digest_and_not_the_name():
    one, other = AdapterRef("t", "a", 1, DIGEST), AdapterRef("t", "b", 9, DIGEST)
    assert one.key == other.key
    assert one.key != AdapterRef("u", "a", 1, DIGEST).key
