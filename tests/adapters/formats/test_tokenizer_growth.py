import pytest

from adapters.formats import tokenizer_growth
from tests.adapters.formats.charsmaps import table

LIGATURE = "\ufdfa"  # NFKD makes 18 characters of it


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def plain(*kinds):
    return [{"type": kind} for kind in kinds]


def sequence(member, *children):
    return {"type": "Sequence", member: list(children)}


def faults(*normalizers, **members):
    return tokenizer_growth.faults({"normalizer": sequence("normalizers", *normalizers), **members})


QUOTES = [replace("``", '"'), replace("''", '"')]
CHARSMAP = {"type": "Precompiled", "precompiled_charsmap": table(LIGATURE, "x" * 18)}
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}


@pytest.mark.parametrize(
    "normalizers",
    [
        [],
        plain("BertNormalizer"),
        plain("NFC"),
        [*QUOTES, *plain("NFKD", "StripAccents", "Lowercase"), CHARSMAP],
        [CHARSMAP, SPACES],
        [*plain("Strip"), CHARSMAP, SPACES],
        plain("NFKC", "Lowercase", "NFD", "StripAccents", "NFC"),
        [{"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")],
    ],
    ids=["none", "bert", "modernbert", "albert", "xlm-roberta", "deberta", "accents", "llama"],
)
def test_the_normalizers_of_public_tokenizers_have_no_faults(normalizers):
    assert faults(*normalizers, decoder=sequence("decoders", replace("\u2581", " "), *plain("Fuse"))) == []


def test_byte_level_tokenizers_have_no_faults():
    assert faults(*plain("NFC"), pre_tokenizer={"type": "ByteLevel"}, decoder={"type": "ByteLevel"}) == []


@pytest.mark.parametrize(
    ("pattern", "content", "good"), [("q", "aaaa", True), ("q", "aaaaa", False), ("qqqqqq", "abcdef", True)]
)
def test_a_replacement_is_about_as_long_as_what_it_replaces(pattern, content, good):
    found = faults(replace(pattern, content)) + faults(decoder=replace(pattern, content))
    assert (found == []) == good
    assert good or found == [f"the tokenizer's Replace makes {len(content)} characters of 1; at most 4"] * 2


def test_an_empty_pattern_and_long_settings_are_refused():
    assert "empty pattern" in faults(replace("", "x"))[0]
    assert "puts 5 characters in front" in faults({"type": "Prepend", "prepend": "aaaaa"})[0]
    assert "at most 64" in faults(decoder={"type": "WordPiece", "prefix": "#" * 65, "cleanup": True})[0]


@pytest.mark.parametrize(
    "normalizers",
    [
        [replace("q", "qqqq")] * 4,
        [replace("q", LIGATURE), *plain("NFKD"), replace("\u0644", LIGATURE), *plain("NFKD")],
        plain(*["ByteLevel"] * 6),
        plain(*["BertNormalizer"] * 4),
        [*plain("NFKD"), replace("a", "aaaa"), CHARSMAP],
    ],
    ids=["replace", "forms", "bytes", "ideographs", "table"],
)
def test_growths_of_a_sequence_are_multiplied(normalizers):
    assert "characters of one; at most 72" in faults(*normalizers)[0]
    nested = faults(*(sequence("normalizers", one) for one in normalizers))
    assert nested == faults(*normalizers)


def test_normalizer_and_pre_tokenizer_count_together_and_the_decoder_alone():
    four = [replace("q", "qqqq")] * 3
    assert faults(*four) == []
    assert (
        "normalizer and pre_tokenizer" in faults(*four, pre_tokenizer=sequence("pretokenizers", *plain("ByteLevel")))[0]
    )
    assert "decoder could" in faults(decoder=sequence("decoders", *four, *plain("CTC")))[0]


def test_a_table_of_replacements_is_looked_into():
    assert "makes more of 'q'" in faults({"type": "Precompiled", "precompiled_charsmap": table("q", "x" * 200)})[0]


def test_long_sequences_are_refused():
    assert faults(*plain(*["Strip"] * 32)) == []
    assert "more than 32" in faults(*plain(*["Strip"] * 33))[0]
