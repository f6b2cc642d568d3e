from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.head_steps import HeadStep, spec_of
from adapters.batch.rows import Row
from adapters.manifest import HeadSpec
from adapters.weights import ALIGN
from tests.adapters import builders

EOS = HeadSpec("classification", 1, None, True, "last_eos", ("a", "b"), "single_label")
WORDS = HeadSpec(
    "seq2seq_lm", 1, None, False, "tokens", (), "vocabulary", vocabulary=9, width=builders.HIDDEN, scale=0.25
)


def head(spec: HeadSpec):
    return builders.in_one_arena([builders.adapter("t5", [], spec)])[0]


def test_a_row_is_classified_by_the_decoders_state_at_its_last_end_of_a_text():
    backbone, own, ids = builders.backbone("t5"), head(EOS), np.array([7, 1, 8, 1, 9])
    rows = [Row((), own, None, ids), Row((), own, None, ids, decoder_ids=np.array([3, 4]))]
    states, answers = backbone.run(rows, ["hidden_state"] * 2), backbone.run(rows, ["logits"] * 2)
    weight, bias = held(own, "0.weight"), held(own, "0.bias")
    assert torch.allclose(answers[0], states[0][3] @ weight.T + bias, atol=1e-5)
    assert torch.allclose(answers[1], states[1] @ weight.T + bias, atol=1e-5)  # every state, where lengths differ


def test_a_head_over_the_encoder_reads_each_rows_own_tokens_beside_heads_over_the_decoder():
    backbone = builders.backbone("t5")
    tags = HeadSpec("tagging", 1, None, True, "encoder_tokens", ("a", "b", "c"), "token")
    folded = [builders.adapter("t5", [], tags), builders.adapter("t5", [], EOS)]
    folded.append(builders.adapter("t5", [builders.lora()], seed=3))
    own, other, adapter = builders.in_one_arena(folded)
    ids = np.array([7, 1, 8, 1, 9])
    rows = [
        Row((adapter,), own, None, ids),
        Row((), other, None, ids),
        Row((), own, None, ids[:3], positions=(2, 0), decoder_ids=np.array([3])),
    ]
    states = backbone.run(rows, ["encoder_hidden_state"] * 3)
    answers, decoded = backbone.run(rows, ["logits"] * 3), backbone.run(rows, ["hidden_state"] * 3)
    weight, bias = held(own, "0.weight"), held(own, "0.bias")
    assert torch.allclose(answers[0], states[0] @ weight.T + bias, atol=1e-5)
    assert torch.allclose(answers[2], states[2][[2, 0]] @ weight.T + bias, atol=1e-5)
    assert torch.allclose(answers[1], decoded[1][3] @ held(other, "0.weight").T + held(other, "0.bias"), atol=1e-5)


def test_states_are_scaled_for_the_heads_that_say_so():
    backbone, own = builders.backbone("t5"), head(WORDS)
    row = Row((), own, None, np.array([7, 8]), positions=(1,), decoder_ids=np.array([3, 4, 5]))
    (states,), (answer,) = backbone.run([row], ["hidden_state"]), backbone.run([row], ["logits"])
    assert torch.allclose(answer, states[1:2] * 0.25 @ held(own, "0.weight").T, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_words_that_an_adapter_trains_count_in_a_head_tied_to_the_table(family):
    backbone, geometry = builders.backbone(family), builders.profile(family).geometry
    tied = replace(language(family), tied=True)
    trained = builders.adapter(family, [builders.PARTS["word_rows"]], seed=3)
    bare = builders.adapter(family, [builders.PARTS["lora_qv"]], seed=4)
    residents = [
        trained,
        bare,
        *(builders.adapter(family, [], spec, seed=5) for spec in (tied, replace(tied, tied=False))),
    ]
    words, lora, head, own = builders.in_one_arena(residents)
    (block,) = words.adapter.blocks[Address(None, "words")]
    ids, vectors = list(block.variant), held_in(words, block.spans["rows"])
    texts = [np.array([5, 8, geometry.vocabulary - 3]), np.array([7, 6]), np.array([9, 7])]
    rows = [Row((words,), head, None, texts[0]), Row((lora,), head, None, texts[1]), Row((words,), own, None, texts[2])]
    states, answers = (backbone.run(rows, [want] * 3) for want in ("hidden_state", "logits"))
    scale = 1.0 if tied.scale is None else tied.scale
    for i, (row, state, answer) in enumerate(zip(rows, states, answers, strict=True)):
        want = scale * state @ held(row.head, "0.weight").T
        if i == 0:
            want[:, ids] = scale * state @ vectors.T
        assert torch.allclose(answer, want, atol=1e-5)
        assert torch.allclose(backbone.run([row], ["logits"])[0], want, atol=1e-5)


def language(family: str) -> HeadSpec:
    if family == "t5":
        return replace(WORDS, vocabulary=builders.profile(family).geometry.vocabulary)
    vocabulary = builders.profile(family).geometry.vocabulary
    return HeadSpec(
        "causal_lm", 1, None, False, "tokens", (), "next_token", vocabulary=vocabulary, width=builders.HIDDEN
    )


def test_a_head_for_means_reads_the_mean_of_its_row_alone_and_beside_others():
    backbone = builders.backbone("modernbert")
    mean, first = (
        HeadSpec("classification", 1, None, True, how, ("a", "b"), "single_label") for how in ("mean", "first_token")
    )
    own, other = builders.in_one_arena([builders.adapter("modernbert", [], spec) for spec in (mean, first)])
    texts = [np.array([7, 8, 9, 10, 11]), np.array([12, 13]), np.array([14, 15, 16])]
    rows = [Row((), head, None, ids) for head, ids in zip((own, other, own), texts, strict=True)]
    states, answers = backbone.run(rows, ["hidden_state"] * 3), backbone.run(rows, ["logits"] * 3)
    for head, read, answer in (
        (own, states[0].mean(0), answers[0]),
        (other, states[1][0], answers[1]),
        (own, states[2].mean(0), answers[2]),
    ):
        assert torch.allclose(answer, read @ held(head, "0.weight").T + held(head, "0.bias"), atol=1e-5)


def test_a_mean_of_halves_is_added_up_in_single_precision():
    spec = HeadSpec("classification", 1, None, True, "mean", ("a", "b"), "single_label")
    step = HeadStep(spec, (0, 1), torch.arange(200), ((0, 1), (1, 2)), None, {}, None, counts=(192, 8))
    states = torch.randn(200, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    read = step.read(states)
    assert read.dtype == torch.bfloat16
    want = torch.stack([states[:192].float().mean(0), states[192:].float().mean(0)]).bfloat16()
    assert int((read != want).sum()) < 4  # added up in halves, it is 18


def held(own, name):
    return held_in(own, own.adapter.head_spans[name])


def held_in(own, span):
    start = span.offset * ALIGN
    return own.adapter.flat[start : start + prod(span.shape)].view(span.shape)


def test_a_row_without_a_head_has_no_specification():
    with pytest.raises(AssertionError):
        spec_of(Row((), None, None, np.array([7])))
