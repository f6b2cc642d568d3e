"""Entities, against transformers' own pipeline on the same logits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.pipelines.token_classification import AggregationStrategy, TokenClassificationPipeline

from serving.tasks.aggregation import Token, entities, tokens_of, without_overlaps
from serving.tasks.task import Room, scores
from serving.tasks.token_classification import TokenClassification
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import head_spec, tokenizer_json
from tests.serving.tasks.pieces import TOKENIZER, answer, prepare

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")
HEAD = head_spec(LABELS, "token")
TEXT = "I hate unbelievable café, zzz you unbelievable love! it"
TASK = TokenClassification()


@pytest.fixture(scope="module")
def pipeline():
    raw = RawTokenizer.from_str(tokenizer_json().decode())
    raw.no_truncation()
    raw.no_padding()
    made = object.__new__(TokenClassificationPipeline)  # its arithmetic needs no model
    made.tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="[UNK]", cls_token="[CLS]")
    made.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(LABELS))))
    return made


def theirs(pipeline, prepared, outputs, strategy, ignored):
    found = []
    for i, (piece, own) in enumerate(zip(prepared.pieces, outputs, strict=True)):
        row = piece.encoded
        logits = np.zeros((row.tokens, len(LABELS)), np.float32)
        logits[list(row.own_positions)] = own
        found.append(
            {
                "logits": torch.from_numpy(logits)[None],
                "sentence": prepared.item.text if i == 0 else None,
                "input_ids": torch.from_numpy(row.input_ids.astype(np.int64))[None],
                "offset_mapping": torch.tensor([row.offsets]),
                "special_tokens_mask": torch.tensor([row.source.special_tokens_mask]),
            }
        )
    return pipeline.postprocess(found, AggregationStrategy[strategy.upper()], ignored)


def alike(ours, reference):
    assert [list(entity) for entity in ours] == [list(entity) for entity in reference]
    for mine, other in zip(ours, reference, strict=True):
        assert {k: v for k, v in mine.items() if k != "score"} == {k: v for k, v in other.items() if k != "score"}
        assert mine["score"] == pytest.approx(float(other["score"]), rel=1e-5)


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("ignored", [(), ("O",), ("PER", "O")], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_entities_are_those_of_the_pipeline(pipeline, strategy, ignored, seed):
    text = TEXT.replace("zzz ", "").replace(",", "") if strategy == "none" else TEXT  # tokens stay as they are spelled
    prepared = prepare(TASK, Text(text))
    tokens = len(prepared.pieces[0].encoded.own_positions)
    output = np.random.default_rng(seed).normal(size=(tokens, len(LABELS))).astype(np.float32)
    options = {"aggregation": strategy, "ignore_labels": ignored}
    alike(answer(TASK, prepared, [output], HEAD, **options), theirs(pipeline, prepared, [output], strategy, [*ignored]))


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("seed", range(4))
def test_entities_of_windows_are_those_of_the_pipeline(pipeline, strategy, seed):
    options = {"aggregation": strategy, "stride": 2}
    prepared = prepare(TASK, Text(TEXT), Room(9), **options)
    assert len(prepared.pieces) > 2
    generator = np.random.default_rng(seed)
    sizes = [len(piece.encoded.own_positions) for piece in prepared.pieces]
    outputs = [generator.normal(size=(size, len(LABELS))).astype(np.float32) for size in sizes]
    alike(answer(TASK, prepared, outputs, HEAD, **options), theirs(pipeline, prepared, outputs, strategy, None))


def test_words_of_a_vocabulary_that_marks_none_end_at_spaces():
    raw = RawTokenizer(models.Unigram([("[UNK]", -9.0), ("lo", -1.0), ("ve", -1.0), ("it", -1.0)], unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = Tokenizer(raw.to_str().encode(), vocabulary=64, types=2)
    (row,) = tokenizer.encode([Text("love it")])
    tokens = tokens_of("love it", row, np.zeros((3, 2)), tokenizer)
    assert [(token.word, token.goes_on) for token in tokens] == [("lo", False), ("ve", True), ("it", False)]


def test_unknown_words_are_spelled_as_in_the_text():
    (row,) = TOKENIZER.encode([Text("you zzz")])
    assert [t.word for t in tokens_of("you zzz", row, np.zeros((2, 2)), TOKENIZER)] == ["you", "zzz"]


def test_a_new_beginning_is_a_new_entity():
    values = scores(np.eye(3, dtype=np.float32)[[1, 2, 1, 2]] * 9, "softmax")
    tokens = [Token(w, v, i, i + 1) for i, (w, v) in enumerate(zip("abcd", values, strict=True))]
    found = entities(tokens, ("O", "B-X", "I-X"), "simple", TOKENIZER)
    assert [(entity["start"], entity["end"]) for entity in found] == [(0, 2), (2, 4)]


def test_of_overlapping_entities_the_longest_then_the_surest_stays():
    def entity(start, end, score=0.5):
        return {"start": start, "end": end, "score": score}

    assert without_overlaps([entity(0, 3), entity(2, 9), entity(9, 10)]) == [entity(2, 9), entity(9, 10)]
    assert without_overlaps([entity(0, 3), entity(0, 3, 0.9)]) == [entity(0, 3, 0.9)]
    assert without_overlaps([entity(0, 3, 0.9), entity(0, 3)]) == [entity(0, 3, 0.9)]
    assert without_overlaps([]) == []
