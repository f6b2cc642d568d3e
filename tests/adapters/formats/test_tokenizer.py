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
