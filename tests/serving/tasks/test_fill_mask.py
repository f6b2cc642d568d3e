import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RawTokenizer
from transformers import PreTrainedTokenizerFast
from transformers.pipelines.fill_mask import FillMaskPipeline

from serving.engine.reduce import reduce
from serving.errors import EngineFailed, Unprocessable
from serving.request import Reduced
from serving.tasks.fill_mask import FillMask
from serving.tasks.task import Items, Options, Room
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import WORDS, tokenizer_json
from tests.serving.tasks.pieces import TOKENIZER, answer, prepare

TASK = FillMask()
SINGLE, DOUBLE = Text("I [MASK] unbelievable it"), Text("[MASK] you [MASK]!")


@pytest.fixture(scope="module")
def pipeline():
    raw = RawTokenizer.from_str(tokenizer_json().decode())
    raw.no_truncation()
    raw.no_padding()
    special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    made = object.__new__(FillMaskPipeline)  # its arithmetic needs no model
    made.tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    return made


def settled(**options):
    return TASK.settle(Options(**options), TOKENIZER)


def share(prepared, logits, **options):
    """What the engine leaves of logits [tokens, vocabulary]."""
    (piece,) = prepared.pieces
    asked = TASK.reduction(prepared, piece, settled(**options))
    return reduce(logits[list(asked.positions)], asked, np.arange(piece.encoded.tokens))


def logits_of(prepared, seed=0):
    rows = prepared.pieces[0].encoded.tokens
    logits = np.random.default_rng(seed).normal(size=(rows, len(WORDS))).astype(np.float32) * 3
    logits[:, WORDS.index("[PAD]")] = -50.0  # the pipeline leaves a pad out of the sequence; here it would be seen
    return logits


@pytest.mark.parametrize("item", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize(("top_k", "targets"), [(None, ()), (2, ()), (9, ()), (None, ("it", "hate")), (1, ("it", "i"))])
def test_fillings_are_those_of_the_pipeline(pipeline, item, top_k, targets):
    options = {"top_k": top_k, "targets": targets}
    prepared = prepare(TASK, item, **options)
    logits = logits_of(prepared)
    ids = torch.from_numpy(prepared.pieces[0].encoded.input_ids.astype(np.int64))[None]
    reference = pipeline.postprocess(
        {"logits": torch.from_numpy(logits)[None], "input_ids": ids},
        top_k=min(top_k or 5, len(WORDS)),
        target_ids=np.array([WORDS.index(word) for word in targets]) if targets else None,
    )
    found = answer(TASK, prepared, [share(prepared, logits, **options)], **options)
    if item is SINGLE:
        found, reference = [found], [reference]
    for ours, theirs in zip(found, reference, strict=True):
        assert [list(filling) for filling in ours] == [["score", "token", "token_str", "sequence"]] * len(theirs)
        for name in ("token", "token_str", "sequence"):
            assert [filling[name] for filling in ours] == [filling[name] for filling in theirs]
        assert [f["score"] for f in ours] == pytest.approx([f["score"] for f in theirs], rel=1e-4)


def test_only_the_masks_and_the_best_tokens_are_asked_for():
    prepared = prepare(TASK, DOUBLE)
    asked = TASK.reduction(prepared, prepared.pieces[0], Options())
    assert (asked.positions, asked.top, asked.chosen) == ((1, 3), 5, None)
    some = TASK.reduction(prepared, prepared.pieces[0], settled(targets=("it", "it", "you")))
    assert (some.top, some.chosen) == (None, (WORDS.index("it"), WORDS.index("you")))


def test_raw_logits_are_the_scores_of_function_none():
    prepared = prepare(TASK, SINGLE)
    logits = logits_of(prepared)
    found = answer(TASK, prepared, [share(prepared, logits)], function="none")
    assert [filling["score"] for filling in found] == sorted(logits[2].tolist(), reverse=True)[:5]


def test_a_text_needs_a_mask_and_the_refusal_names_it():
    for item, options in ((Text("i love it"), {}), (Text("i love [MASK]"), {"truncate": True})):
        with pytest.raises(Unprocessable, match=r"holds no \[MASK\]") as caught:
            prepare(TASK, item, Room(4), **{"truncate": True, **options})
        assert caught.value.code == "no_mask"


def test_a_vocabulary_without_a_mask_token_fills_nothing():
    bare = Tokenizer(tokenizer_json([word for word in WORDS if word != "[MASK]"]), vocabulary=64, types=2)
    with pytest.raises(Unprocessable, match="no mask token"):
        prepare(TASK, Text("i love it"), tokenizer=bare)


def test_the_mask_of_other_vocabularies_is_found():
    raw = json.loads(tokenizer_json())
    raw["added_tokens"][-1] |= {"content": "<mask>"}
    raw["model"]["vocab"]["<mask>"] = raw["model"]["vocab"].pop("[MASK]")
    other = Tokenizer(json.dumps(raw).encode(), vocabulary=64, types=2)
    assert other.mask == ("<mask>", len(WORDS) - 1)
    assert prepare(TASK, Text("i <mask>"), tokenizer=other).pieces[0].encoded.tokens == 4


@pytest.mark.parametrize("target", ["unbelievable", "", "it you", "zebra"])
def test_a_target_is_one_token(target):
    with pytest.raises(Unprocessable) as caught:
        prepare(TASK, SINGLE, targets=("it", target))
    assert (caught.value.code, caught.value.faults[0].pointer) == ("unknown_target", "/parameters/targets/1")


def test_what_the_vocabulary_can_not_spell_is_its_unknown_token_only_by_that_name():
    assert settled(targets=("it", "[UNK]")).target_ids == (WORDS.index("it"), WORDS.index("[UNK]"))
    with pytest.raises(Unprocessable, match=r"'zebra' is no token of the vocabulary \(it would be '\[UNK\]'\)"):
        settled(targets=("zebra",))


def test_every_mask_counts_as_often_as_tokens_are_asked_for():
    prepared = prepare(TASK, DOUBLE)
    assert TASK.items(prepared, None, Options()) == Items(10, "top_k")
    assert TASK.items(prepared, None, Options(top_k=9)) == Items(18, "top_k")
    assert TASK.items(prepared, None, settled(top_k=1, targets=("it", "it", "you", "i"))) == Items(6, "targets")


def test_too_many_targets_are_not_scored():
    TASK.check(Options(targets=("it",) * 1000))
    with pytest.raises(Unprocessable) as caught:
        TASK.check(Options(targets=("it",) * 1001))
    assert caught.value.faults[0].pointer == "/parameters/targets"


def test_too_many_tokens_are_not_given():
    with pytest.raises(Unprocessable) as caught:
        TASK.check(Options(top_k=1001))
    assert caught.value.faults[0].pointer == "/parameters/top_k"


def test_an_engine_that_leaves_out_a_mask_has_failed():
    prepared = prepare(TASK, DOUBLE)
    for output, ids in (((1, 6), (1, 5)), ((2, 6), (2, 4)), ((2, 6), None)):
        broken = Reduced(np.zeros(output, np.float32), None if ids is None else np.zeros(ids, np.int32))
        with pytest.raises(EngineFailed):
            answer(TASK, prepared, [broken])
