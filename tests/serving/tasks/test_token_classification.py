import numpy as np
import pytest

from serving.errors import TooLarge, Unprocessable
from serving.tasks.task import Options, Room
from serving.tasks.token_classification import TokenClassification
from serving.tasks.tokenization import Text
from tests.serving.samples import head_spec
from tests.serving.tasks.pieces import answer, prepare

TEXT = "I hate unbelievable"
TAGS = head_spec(("O", "X"), "token")
TASK = TokenClassification()
OUTPUT = np.array([[1, 0], [0, 2], [0, 0], [0, 1], [3, 0]], np.float32)


def asked(item, **options):
    prepared = prepare(TASK, item, **options)
    return [TASK.reduction(prepared, piece, Options(**options)).positions for piece in prepared.pieces]


def test_only_the_texts_own_tokens_are_asked_for():
    assert asked(Text(TEXT)) == [(1, 2, 3, 4, 5)]
    assert asked(Text("")) == [()]


def test_one_entity_per_token_with_its_characters():
    found = answer(TASK, prepare(TASK, Text(TEXT)), [OUTPUT], TAGS)
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
    prepared = prepare(TASK, Text(TEXT))
    assert {e["score"] for e in answer(TASK, prepared, [output], TAGS, function="none")} == {4.5}
    (group,) = answer(TASK, prepared, [output], TAGS, function="none", aggregation="average")
    assert (group["entity_group"], group["score"]) == ("X", 4.5)


def test_a_text_without_tokens_has_no_entities():
    prepared = prepare(TASK, Text(""))
    for strategy in ("none", "simple", "first"):
        assert answer(TASK, prepared, [np.zeros((0, 2))], TAGS, aggregation=strategy) == []


def test_labels_are_left_out_by_name_and_o_where_tokens_are_aggregated():
    prepared = prepare(TASK, Text(TEXT))
    assert len(answer(TASK, prepared, [OUTPUT], TAGS, ignore_labels=("O",))) == 2
    groups = answer(TASK, prepared, [OUTPUT], TAGS, aggregation="simple")
    assert [group["entity_group"] for group in groups] == ["X", "X"]
    assert len(answer(TASK, prepared, [OUTPUT], TAGS, aggregation="simple", ignore_labels=())) == 5


def test_long_texts_are_refused_cut_or_read_in_windows():
    with pytest.raises(Unprocessable, match="7 tokens; at most 6"):
        prepare(TASK, Text(TEXT), Room(6))
    assert prepare(TASK, Text(TEXT), Room(6), truncate=True).truncated
    windows = prepare(TASK, Text(TEXT), Room(5), stride=1, aggregation="simple")
    assert [piece.encoded.words[1:-1] for piece in windows.pieces] == [
        ["i", "hate", "un"],
        ["un", "##believ", "##able"],
    ]
    assert not windows.truncated
    assert len(prepare(TASK, Text(TEXT), Room(7), stride=1, aggregation="simple").pieces) == 1


def test_windows_need_an_aggregation_and_room_for_new_tokens():
    with pytest.raises(Unprocessable) as caught:
        TASK.check(Options(stride=2))
    assert caught.value.faults[0].pointer == "/parameters/stride"
    TASK.check(Options(stride=2, aggregation="first"))
    for stride in (3, 4):
        with pytest.raises(Unprocessable) as caught:
            prepare(TASK, Text(TEXT), Room(5), stride=stride, aggregation="first")
        assert caught.value.faults[0].pointer == "/parameters/stride"
    with pytest.raises(TooLarge):
        prepare(TASK, Text("i " * 50), Room(5, rows=20), stride=1, aggregation="first")
