import json

import pytest

from adapters.formats.tokenizer import faults
from tests.adapters.formats.folders import tokenizer_json


def test_an_ordinary_tokenizer_has_no_faults():
    assert faults(tokenizer_json(), rows=3) == []


def test_a_matrix_with_too_few_rows_is_named_with_the_highest_id():
    assert faults(tokenizer_json(), rows=2) == ["the tokenizer gives ids up to 2, but the matrix has only 2 rows"]


@pytest.mark.parametrize(
    "changes",
    [
        {
            "added_tokens": [
                {
                    "id": 9,
                    "content": "<x>",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
            ]
        },
        {"post_processor": {"type": "BertProcessing", "sep": ["b", 9], "cls": ["a", 1]}},
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [],
                "pair": [],
                "special_tokens": {"a": {"id": "a", "ids": [9], "tokens": ["a"]}},
            }
        },
        {
            "post_processor": {
                "type": "Sequence",
                "processors": [{"type": "RobertaProcessing", "sep": ["b", 9], "cls": ["a", 0]}],
            }
        },
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["x", 0.0]] * 10}},
    ],
)
def test_ids_count_wherever_the_tokenizer_holds_them(changes):
    assert "up to 9" in faults(tokenizer_json(**changes), rows=9)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a|a)*b"}, "content": ""}},
        {
            "normalizer": {
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"Regex": "x"}, "content": ""}],
            }
        },
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Split", "pattern": {"String": "a", "Regex": "(a+)+"}}],
            }
        },
        {"decoder": {"type": "Replace", "pattern": {"Regex": "x"}, "content": ""}},
    ],
)
def test_a_regular_expression_of_ones_own_is_refused_at_any_depth(changes):
    assert any("regular expression" in reason for reason in faults(tokenizer_json(**changes), rows=3))


def test_plain_and_known_patterns_are_allowed():
    for pattern in ({"String": "x"}, {"Regex": " {2,}"}):
        normalizer = {"type": "Replace", "pattern": pattern, "content": " "}
        assert faults(tokenizer_json(normalizer=normalizer), rows=3) == []


@pytest.mark.parametrize("member", ["normalizer", "pre_tokenizer", "model", "post_processor", "decoder"])
def test_a_component_that_is_not_listed_is_refused(member):
    reasons = faults(tokenizer_json(**{member: {"type": "Custom", "vocab": {}}}), rows=3)
    assert reasons == [f"the tokenizer's {member} 'Custom' is not allowed"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        tokenizer_json(model={"type": "WordLevel"}),
        tokenizer_json(model={"type": "WordLevel", "vocab": {"a": "x"}}),
        tokenizer_json(model={"type": "WordLevel", "vocab": {"a": -1}}),
        tokenizer_json(model={"type": "WordLevel", "vocab": {"a": True}}),
        tokenizer_json(normalizer=5),
        tokenizer_json(normalizer={"type": "Sequence", "normalizers": 5}),
        tokenizer_json(added_tokens={"id": 1}),
        tokenizer_json(extra={"type": "x"}),
        tokenizer_json(model={"type": "WordPiece", "vocab": {"a": 0}}),
        tokenizer_json(model={"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}),
        tokenizer_json(post_processor={"type": "BertProcessing", "sep": 5, "cls": 5}),
    ],
)
def test_a_malformed_tokenizer_is_a_reason_and_never_an_exception(data):
    assert faults(data, rows=3)


def test_special_ids_may_be_missing_but_reasons_are_all_given():
    value = json.loads(tokenizer_json(normalizer={"type": "X"}, decoder={"type": "Y"}))
    assert len(faults(json.dumps(value).encode(), rows=3)) == 2


def test_texts_that_grow_without_bounds_are_refused():
    many = {"type": "Replace", "pattern": {"String": "q"}, "content": "q" * 300}
    reasons = faults(tokenizer_json(normalizer={"type": "Sequence", "normalizers": [many] * 3}), rows=3)
    assert reasons == ["the tokenizer's Replace makes 300 characters of 1; at most 4"] * 3


def test_settings_that_are_never_used_cost_nothing():
    padding = {"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "a"}
    truncation = {"direction": "Right", "max_length": 0, "strategy": "OnlySecond", "stride": 0}
    assert faults(tokenizer_json(padding=padding, truncation=truncation), rows=3) == []


def bpe(**changes):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": {"a": 0}, "merges": []}
    return tokenizer_json(model=model | changes)


def piece(**changes):
    model = {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 256}
    return tokenizer_json(model=model | {"vocab": {"a": 0}} | changes)


def unigram(unknown):
    return tokenizer_json(model={"type": "Unigram", "unk_id": unknown, "vocab": [["x", 0.0]], "byte_fallback": False})


def test_models_that_know_an_unknown_character_have_no_faults():
    assert [faults(data, rows=3) for data in (bpe(), bpe(dropout=0.0), piece(), unigram(0))] == [[], [], [], []]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bpe(dropout=0.1), "dropout 0.1"),
        (bpe(unk_token="z"), "lacks its unk_token 'z'"),
        (bpe(end_of_word_suffix="x" * 65), "end_of_word_suffix"),
        (piece(continuing_subword_prefix="x" * 65), "continuing_subword_prefix"),
        (piece(max_input_chars_per_word=257), "max_input_chars_per_word"),
        (piece(unk_token="z"), "lacks its unk_token 'z'"),
        (tokenizer_json(("a", "b")), "lacks its unk_token '[UNK]'"),
        (unigram(None), "unk_id"),
        (unigram(1), "unk_id"),
        (tokenizer_json(("[UNK]", "x" * 1025)), "token of 1025 characters"),
    ],
)
def test_random_endless_and_missing_answers_are_refused_before_anyone_asks(data, message):
    (reason,) = faults(data, rows=3)
    assert message in reason


def template(single, ids=(0,)):
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    special = {"a": {"id": "a", "ids": list(ids), "tokens": ["a"] * len(ids)}}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def test_templates_add_few_tokens_and_repeat_no_text():
    text, added = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "a", "type_id": 0}}
    assert faults(tokenizer_json(post_processor=template([added, text, added])), rows=3) == []
    for single, ids, message in (
        ([text], (0,), None),
        ([added, text], (0,) * 65, "adds 65 tokens"),
        ([added] * 65 + [text], (0,), "adds 65 tokens"),
        ([text, text], (0,), "repeats a text"),
    ):
        inner = {"type": "Sequence", "processors": [template(single, ids)]}
        reasons = faults(tokenizer_json(post_processor=inner), rows=3)
        assert reasons == [] if message is None else message in reasons[0]
