from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel
from transformers.models.mbart.modeling_mbart import shift_tokens_right

from adapters.batch.past import Past
from adapters.batch.rows import Row
from adapters.batch.targets import (
    answered_tokens,
    check_target,
    eos_place,
    is_whole,
    moved,
    row_positions,
    target_ids,
    target_positions,
)
from adapters.errors import InvalidRow
from adapters.manifest import HeadSpec
from adapters.methods.fold import fold
from tests.adapters import builders

T5, BART, MBART = (builders.profile(family).geometry for family in ("t5", "bart", "mbart"))


def row(*ids: int, **more: object) -> Row:
    return Row((), None, None, np.array(ids), **more)


def test_a_decoder_that_is_given_nothing_begins_with_the_rows_own_tokens_moved():
    assert target_ids(row(7, 8, 1), T5).tolist() == [0, 7, 8]
    assert target_ids(row(7, 8, 2), BART).tolist() == [2, 7, 8]
    assert target_ids(row(7, 8, decoder_ids=np.array([5])), T5).tolist() == [5]


def test_mbart_begins_with_the_last_token_that_is_no_padding():
    for ids in ([7, 8, 2, 40], [7, 40, 1, 1]):
        expected = shift_tokens_right(torch.tensor([ids]), MBART.pad_token_id)[0]
        assert moved(np.array(ids), MBART).tolist() == expected.tolist()


def test_a_head_reads_the_last_end_of_a_text_or_every_state():
    assert eos_place(row(7, 1, 8, 1, 9), T5) == 3
    assert not is_whole(row(7, 1), np.array([3, 4]), "last_eos")
    assert is_whole(row(7, 1), np.array([3]), "last_eos")
    assert not is_whole(row(7, 1), np.array([3]), "tokens")
    with pytest.raises(InvalidRow, match="token 1"):
        eos_place(row(7, 8), T5)


def test_what_is_answered_are_the_rows_own_tokens_and_behind_an_encoder_all_of_the_decoders():
    for family, expected in (("bert", [3, 4]), ("t5", [0, 1])):
        (prompted,) = builders.in_one_arena([builders.adapter(family, [builders.PARTS["word_prompt"]])])
        given = replace(row(7, 8), members=(prompted,))
        assert given.length == 5
        assert answered_tokens(given, builders.profile(family).geometry, scores=True).tolist() == expected
    given = replace(given, decoder_ids=np.array([3, 4, 5]))
    assert answered_tokens(given, T5, scores=True).tolist() == [0, 1, 2]


def test_scores_of_a_head_over_the_encoder_are_of_the_rows_own_tokens():
    spec = HeadSpec("tagging", 1, None, True, "encoder_tokens", ("a", "b"), "token")
    prompted, head = builders.in_one_arena(
        [builders.adapter("t5", [builders.PARTS["word_prompt"]]), builders.adapter("t5", [], spec)]
    )
    given = replace(row(7, 8), members=(prompted,), head=head)
    assert answered_tokens(given, T5, scores=True).tolist() == [3, 4]
    assert answered_tokens(given, T5, scores=False).tolist() == [0, 1]
    with pytest.raises(InvalidRow, match="does not run behind a past"):
        check_target(replace(row(7), head=head, past=Past((), 2)), T5)


def test_positions_begin_at_zero():
    assert target_positions(row(7, 8), np.array([3, 4, 5])).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "geometry", "reason"),
    [
        (row(7, decoder_ids=np.array([], np.int64)), T5, "without tokens"),
        (row(7, decoder_ids=np.array([3])), builders.profile("bert").geometry, "has none"),
        (row(7, decoder_ids=np.arange(41)), BART, "takes 40"),
        (row(7, encoded=torch.zeros(2, builders.HIDDEN)), T5, "encoder's states"),
        (row(7, decoder_ids=np.array([3, 4]), past=Past((), 3)), T5, "behind a past is one token, not 2"),
    ],
)
def test_what_can_not_run_is_refused(given, geometry, reason):
    with pytest.raises(InvalidRow, match=reason):
        check_target(given, geometry)


def test_a_reft_in_the_decoder_needs_rows_of_one_length():
    (resident,) = builders.in_one_arena([builders.adapter("t5", [builders.reft(layers=[1])])])
    check_target(replace(row(7, 8, decoder_ids=np.array([3, 4])), members=(resident,)), T5)
    with pytest.raises(InvalidRow, match="equally long"):
        check_target(replace(row(7, 8, decoder_ids=np.array([3])), members=(resident,)), T5)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_prompt_stands_in_front_of_the_encoders_tokens_alone(family):
    package = builders.package(family, [builders.PARTS["word_prompt"]])
    (prompt,) = builders.in_one_arena([fold(package, builders.profile(family), torch.float32)])
    ids, second = builders.ids(1, 6), builders.ids(2, 4)
    beside, plain = (Row(members, None, None, ids, decoder_ids=second) for members in ((prompt,), ()))
    assert target_positions(beside, second).tolist() == [0, 1, 2, 3]
    assert row_positions(beside).tolist() == list(range(9))
    with torch.inference_mode():
        wanted = ["hidden_state", "encoder_hidden_state", "hidden_state"]
        states, encoded, bare = builders.backbone(family).run([beside, beside, plain], wanted)
        model = AutoModel.from_pretrained(builders.folder(family), attn_implementation="eager").eval()
        own = model.get_input_embeddings()(torch.from_numpy(ids))
        vectors = torch.cat([package.tensors["model/embed_lookup/prompt"], own])
        found = model(inputs_embeds=vectors[None], decoder_input_ids=torch.from_numpy(second)[None])
    assert (encoded - found.encoder_last_hidden_state[0]).abs().max() < 1e-5
    assert (states - found.last_hidden_state[0]).abs().max() < 1e-5 < (states - bare).abs().max()
