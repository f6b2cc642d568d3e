import numpy as np
import pytest

from serving.errors import Unprocessable
from serving.request import Reduction
from serving.tasks.dependency_parsing import DependencyParsing
from serving.tasks.inputs import Words
from serving.tasks.task import Options, Room
from serving.tasks.tokenization import Text
from tests.serving.samples import head_of
from tests.serving.tasks.pieces import answer, prepare

TASK = DependencyParsing()
HEAD = head_of("dependency_parsing")  # nsubj, obj, root
OUTPUT = np.array([[0, 0, 9, 5, 0, 0], [9, 0, 0, 0, 0, 5]], np.float32)  # arcs to root, 1, 2; relations


def test_words_are_tokenized_one_by_one_and_told_where_they_begin():
    prepared = prepare(TASK, Words(("you", "unbelievable", "it!")))
    (piece,) = prepared.pieces
    assert piece.encoded.words == ["[CLS]", "you", "un", "##believ", "##able", "it", "!", "[SEP]"]
    assert piece.word_starts == (1, 2, 5, 7)
    assert TASK.reduction(prepared, piece, Options()) == Reduction("logits", best_head=True)


def test_a_text_is_split_at_white_space():
    prepared = prepare(TASK, Text(" you\tlove\n it! "))
    assert prepared.item == Words(("you", "love", "it!"))
    assert prepared.pieces[0].word_starts == (1, 2, 3, 5)


def test_every_word_has_a_head_and_a_relation():
    found = answer(TASK, prepare(TASK, Text("you love")), [OUTPUT], HEAD)
    assert [(arc["id"], arc["word"], arc["head"], arc["relation"]) for arc in found] == [
        (1, "you", 2, "nsubj"),
        (2, "love", 0, "root"),
    ]
    arc, relation = np.exp(9) / (np.exp(9) + 2), np.exp(5) / (np.exp(5) + 2)
    assert [item["score"] for item in found] == pytest.approx([arc * relation] * 2)
    assert list(found[0]) == ["id", "word", "head", "relation", "score"]


def test_raw_logits_of_all_that_was_compared():
    found = answer(TASK, prepare(TASK, Text("you love")), [OUTPUT], HEAD, function="none")
    assert [arc["score"] for arc in found] == [9.0, 9.0]
    assert [arc["arc_logits"] for arc in found] == OUTPUT[:, :3].tolist()
    assert [arc["relation_logits"] for arc in found] == OUTPUT[:, 3:].tolist()


def test_only_whole_words_are_cut():
    item = Words(("you", "unbelievable", "it"))
    with pytest.raises(Unprocessable, match="7 tokens; at most 5"):
        prepare(TASK, item, Room(5))
    cut = prepare(TASK, item, Room(5), truncate=True)
    assert cut.truncated
    assert cut.item == Words(("you",))
    assert cut.pieces[0].word_starts == (1, 2)
    assert prepare(TASK, item, Room(6), truncate=True).item == Words(("you", "unbelievable"))
    with pytest.raises(Unprocessable, match="even the first word"):
        prepare(TASK, Words(("unbelievable", "it")), Room(4), truncate=True)


@pytest.mark.parametrize(
    ("item", "pointers"),
    [(Text(" "), [""]), (Words(("i", "", "\u200b")), ["/words/1", "/words/2"])],
    ids=str,
)
def test_words_without_tokens_are_refused(item, pointers):
    with pytest.raises(Unprocessable) as caught:
        prepare(TASK, item)
    assert caught.value.code == "unreadable_input"
    assert [fault.pointer for fault in caught.value.faults] == pointers
