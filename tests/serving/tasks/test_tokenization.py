import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import DependencyFailed, Unprocessable
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import WORDS, tokenizer_json


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(tokenizer_json(), vocabulary=len(WORDS), types=2)


def words(encoded) -> str:
    return " ".join(encoded.words)


def test_truncation_and_padding_of_the_file_are_dropped(tokenizer):
    long, short = tokenizer.encode([Text("i love it i love it i love it"), Text("i")])
    assert (long.tokens, short.tokens) == (11, 3)
    assert words(short) == "[CLS] i [SEP]"


def test_a_batch_gives_what_each_text_gives_alone(tokenizer):
    texts = [Text("i love it"), Text("unbelievable", "cafe"), Text("")]
    for text, together in zip(texts, tokenizer.encode(texts), strict=True):
        (alone,) = tokenizer.encode([text])
        assert alone.input_ids.tolist() == together.input_ids.tolist()


def test_ids_are_int32_and_a_pair_has_segments(tokenizer):
    single, pair = tokenizer.encode([Text("i"), Text("i", "you")])
    assert single.input_ids.dtype == np.int32
    assert single.type_ids is None
    assert pair.type_ids is not None
    assert pair.type_ids.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("types", [0, 1])
def test_families_without_segments_are_sent_none(types):
    (pair,) = Tokenizer(tokenizer_json(), vocabulary=64, types=types).encode([Text("i", "you")])
    assert pair.type_ids is None


def test_offsets_are_characters_of_the_original_text(tokenizer):
    text = "I  LOVE\u00a0cafés \U0001f600!"
    (encoded,) = tokenizer.encode([Text(text)])
    covered = [text[start:end] for start, end in (encoded.offsets[i] for i in encoded.own_positions)]
    assert covered == ["I", "LOVE", "cafés", "\U0001f600", "!"]
    assert 0 not in encoded.own_positions
    assert encoded.tokens - 1 not in encoded.own_positions


def test_cut_keeps_the_special_tokens_and_the_first_words(tokenizer):
    cut = tokenizer.cut(Text("i love it you hate it"), 5)
    assert words(cut) == "[CLS] i love it [SEP]"
    assert tokenizer.encode([Text("i love it you hate it")])[0].tokens == 8  # the setting did not stick


def test_cut_shortens_the_longer_of_a_pair(tokenizer):
    cut = tokenizer.cut(Text("i love it you hate it", "you"), 7)
    assert words(cut) == "[CLS] i love it [SEP] you [SEP]"


def test_cut_refuses_a_room_that_special_tokens_fill(tokenizer):
    with pytest.raises(Unprocessable, match="no room"):
        tokenizer.cut(Text("i"), 2)
    with pytest.raises(Unprocessable, match="no room"):
        tokenizer.cut(Text("i", "you"), 3)


def test_cuts_to_different_rooms_do_not_disturb_each_other(tokenizer):
    text = Text("i love it " * 8)
    rooms = [3 + i % 9 for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda room: tokenizer.cut(text, room).tokens, rooms)) == rooms


@given(st.text(max_size=40), st.integers(3, 12))
def test_cut_is_a_no_op_where_the_text_fits(text, room):
    tokenizer = Tokenizer(tokenizer_json(), vocabulary=len(WORDS), types=2)
    (whole,) = tokenizer.encode([Text(text)])
    cut = tokenizer.cut(Text(text), room)
    assert cut.tokens == min(whole.tokens, room)
    if whole.tokens <= room:
        assert cut.input_ids.tolist() == whole.input_ids.tolist()


def test_without_places_the_tokens_are_the_same_and_nobody_is_told_where_they_are(tokenizer):
    texts = [Text("I love it, unhappily"), Text("i", "you")]
    for quick, whole in zip(tokenizer.encode(texts, placed=False), tokenizer.encode(texts), strict=True):
        assert quick.input_ids.tolist() == whole.input_ids.tolist()
        assert (quick.type_ids is None) == (whole.type_ids is None)
        assert quick.own_positions == whole.own_positions
        assert whole.words[0] == "[CLS]"
        for asked in (lambda row: row.words, lambda row: row.offsets, lambda row: row.word_span(1, 1, 0)):
            with pytest.raises(AssertionError, match="without places"):
                asked(quick)


def test_faults_name_what_the_backbone_can_not_read(tokenizer):
    (good,) = tokenizer.encode([Text("i love it", "you")])
    assert tokenizer.fault(good) is None
    small = Tokenizer(tokenizer_json(), vocabulary=5, types=2)
    assert "has 5 rows" in (small.fault(small.encode([Text("love")])[0]) or "")
    raw = json.loads(tokenizer_json())
    raw["post_processor"]["pair"][-1]["SpecialToken"]["type_id"] = 7
    odd = Tokenizer(json.dumps(raw).encode(), vocabulary=64, types=2)
    assert "segment 7" in (odd.fault(odd.encode([Text("i", "you")])[0]) or "")
    raw["post_processor"] = None
    bare = Tokenizer(json.dumps(raw).encode(), vocabulary=64, types=2)
    assert bare.fault(bare.encode([Text(" ")])[0]) == "the text has no tokens"


def test_words_are_tokenized_each_for_itself_and_counted(tokenizer):
    encoded, counts = tokenizer.encode_words(["you", "unbelievable", "", "it!"])
    assert words(encoded) == "[CLS] you un ##believ ##able it ! [SEP]"
    assert counts == [1, 3, 0, 2]


def test_parts_tell_a_text_from_its_pair(tokenizer):
    (pair,) = tokenizer.encode([Text("i", "love it")])
    assert pair.parts == [None, 0, None, 1, 1, None]


def test_a_span_of_tokens_grows_to_whole_words(tokenizer):
    context = "it unbelievable!"
    (pair,) = tokenizer.encode([Text("i", context)])
    assert pair.words[5] == "##believ"
    start, end = pair.word_span(5, 5, 1)
    assert context[start:end] == "unbelievable"
    start, end = pair.word_span(3, 5, 1)
    assert context[start:end] == "it unbelievable"
    assert pair.word_span(0, 5, 1) == (0, pair.offsets[5][1])  # a special token is in no word


def test_a_mask_is_a_special_token_that_is_called_so(tokenizer):
    assert tokenizer.mask == ("[MASK]", WORDS.index("[MASK]"))
    assert Tokenizer(tokenizer_json(WORDS[:-1]), vocabulary=64, types=2).mask is None


def test_ids_of_a_token_or_of_a_text(tokenizer):
    assert tokenizer.ids("##able") == [WORDS.index("##able")]
    assert tokenizer.ids("Love") == [WORDS.index("love")]
    assert len(tokenizer.ids("unbelievable")) == 3


def test_ids_and_tokens_become_text_again(tokenizer):
    (encoded,) = tokenizer.encode([Text("unbelievable it!")])
    ids = encoded.input_ids.tolist()
    assert tokenizer.texts_of([ids, ids[1:3]]) == ["[CLS] unbelievable it! [SEP]", "unbeliev"]
    assert tokenizer.texts_of([ids], special=False) == ["unbelievable it!"]
    assert tokenizer.spell(encoded.words[1:-1]) == "unbelievable it!"
    assert tokenizer.token(ids[1]) == "un"
    assert (tokenizer.unknown, tokenizer.marks_subwords) == (WORDS.index("[UNK]"), True)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"version": "9"}'])
def test_bytes_that_are_no_tokenizer_are_a_failed_dependency(data):
    with pytest.raises(DependencyFailed) as caught:
        Tokenizer(data, vocabulary=1, types=2)
    assert caught.value.code == "bad_tokenizer"
