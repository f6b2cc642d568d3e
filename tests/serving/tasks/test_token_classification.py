import numpy as np
import pytest

from serving.tasks.task import Options
from serving.tasks.token_classification import TokenClassification
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import head_spec, tokenizer_json

TEXT = "I hate unbelievable"
ENCODED, EMPTY = Tokenizer(tokenizer_json(), vocabulary=64, types=2).encode([Text(TEXT), Text("")])
TAGS = head_spec(("O", "X"), "token")
TASK = TokenClassification()


def test_only_the_texts_own_tokens_are_asked_for():
    assert TASK.reduction(ENCODED).positions == (1, 2, 3, 4, 5)
    assert TASK.reduction(EMPTY).positions == ()


def test_one_entity_per_token_with_its_characters():
    output = np.array([[1, 0], [0, 2], [0, 0], [0, 1], [3, 0]], np.float32)
    found = TASK.answer(output, ENCODED, TAGS, Options())
    assert [(e["entity"], e["index"], e["word"], TEXT[e["start"] : e["end"]]) for e in found] == [
        ("O", 1, "i", "I"),
        ("X", 2, "hate", "hate"),
        ("O", 3, "un", "un"),
        ("X", 4, "##believ", "believ"),
        ("O", 5, "##able", "able"),
    ]
    assert found[1]["score"] == pytest.approx(1 / (1 + np.exp(-2)))
    assert list(found[0]) == ["entity", "score", "index", "word", "start", "end"]


def test_raw_logits_are_the_scores_of_function_none():
    output = np.full((5, 2), 0.25, np.float32)
    output[:, 1] = 4.5
    assert {e["score"] for e in TASK.answer(output, ENCODED, TAGS, Options(function="none"))} == {4.5}


def test_a_text_without_tokens_has_no_entities():
    assert TASK.answer(np.zeros((0, 2), np.float32), EMPTY, TAGS, Options()) == []


def test_rows_that_do_not_match_the_tokens_are_a_bug_that_shows():
    with pytest.raises(ValueError, match="shorter"):
        TASK.answer(np.zeros((4, 2), np.float32), ENCODED, TAGS, Options())
