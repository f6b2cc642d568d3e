import numpy as np
import pytest
from tokenizers import Tokenizer

from adapters.manifest import HeadSpec
from serving.registry.check_answer import word_starts, worded
from tests.serving.samples import tokenizer_json

TOKENIZER = Tokenizer.from_buffer(tokenizer_json())
TOKENIZER.no_truncation()
TOKENIZER.no_padding()
TEXT = "i unbelievable cafe"
ENCODING = TOKENIZER.encode(TEXT)  # [CLS] i un ##believ ##able caf ##e [SEP]


def head(problem, labels=("a", "b", "c")):
    return HeadSpec("classification", 1, None, True, "first_token", tuple(labels), problem)


def answer(problem, logits, labels=("a", "b", "c")):
    return worded(head(problem, labels), np.asarray(logits, np.float32), ENCODING, TOKENIZER, TEXT)


def test_words_begin_at_their_first_token_and_specials_are_none():
    assert word_starts(ENCODING) == (1, 2, 5, 7)
    assert word_starts(TOKENIZER.encode("")) == (0, 2)


def test_one_label_of_several_by_softmax():
    assert answer("single_label", [0.0, np.log(2), 0.0]) == {"label": "b", "score": 0.5}


def test_labels_on_their_own_by_sigmoid():
    assert answer("multi_label", [0.0, -2.0, 0.0]) == {"label": "a", "score": 0.5}


@pytest.mark.parametrize("problem", ["regression", "choice"])
def test_one_number_as_it_is(problem):
    assert answer(problem, [1.5]) == {"value": 1.5}


def test_a_tagger_tells_its_first_word():
    logits = np.zeros((8, 2))
    logits[1] = [0.0, 50.0]
    logits[0] = [50.0, 0.0]  # of [CLS]
    assert answer("token", logits, ("o", "x")) == {"word": "i", "label": "x", "score": 1.0}


def test_a_span_is_words_of_the_text_and_never_ends_before_it_begins():
    logits = np.zeros((8, 2))
    logits[2, 0] = logits[4, 1] = 5.0
    logits[1, 1] = 9.0
    assert answer("span", logits, ("start", "end")) == {"answer": "unbelievable"}


def test_a_language_model_tells_the_token_behind_the_last():
    logits = np.zeros((8, 16))
    logits[7, 5] = 3.0
    assert answer("next_token", logits, ()) == {"word": "[SEP]", "token_str": "love"}


def test_a_vocabulary_tells_the_best_token_at_the_first_word():
    logits = np.zeros((8, 16))
    logits[1, 5] = 3.0
    assert answer("vocabulary", logits, ()) == {"word": "i", "token_str": "love"}


def test_a_tree_tells_the_first_arc():
    logits = np.zeros((3, 4, 3))
    logits[0, 2, 0] = 4.0
    logits[0, 2, 2] = 1.0
    assert answer("tree", logits, ("nsubj", "obj")) == {"head": 2, "relation": "obj"}
