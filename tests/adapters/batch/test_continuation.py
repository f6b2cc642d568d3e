from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.batch.continuation import Continuation
from adapters.batch.past import Past
from adapters.batch.rows import Row, check_row
from adapters.errors import InvalidRow
from tests.adapters import builders
from tests.adapters.batch.arrangements import average, split
from tests.adapters.builders import PARTS, reft

FAMILY, IDS = "llama", np.array([7, 8, 9, 10])
EARLY = reft(prefix_positions=4, suffix_positions=0)
NOTHING = Past((torch.zeros(2, 3, 8),), 3)


def resident(*parts):
    return builders.in_one_arena([builders.adapter(FAMILY, parts)])[0]


@pytest.mark.parametrize(
    ("part", "keeps"),
    [
        *((PARTS[name], True) for name in ("seq_bn", "lora_qv", "dora", "prefix_flat", "word_prompt", "biases", "ia3")),
        *((PARTS[name], False) for name in ("gated_bn", "lora_gated", "ia3_gated", "prefix_gates", "loreft", "direft")),
        (EARLY, True),
        (reft(prefix_positions=5, suffix_positions=0), False),
    ],
)
def test_rows_go_on_unless_what_adapters_did_to_them_depends_on_what_comes(part, keeps):
    assert Continuation().keeps(Row((resident(part),), None, None, IDS)) is keeps
    nested = average((resident(PARTS["lora_qv"]),), (resident(part),), weights=(1, 1))
    assert Continuation().keeps(Row((nested,), None, None, IDS)) is keeps


def test_splits_are_of_the_whole_row_wherever_they_stand():
    one = resident(PARTS["seq_bn"])
    parted = split((one,), (one,), splits=(3, 9))
    for members in ((parted,), (one, average((one,), [one, parted], weights=(1, 1)))):
        assert not Continuation().keeps(Row(members, None, None, IDS))


def test_what_was_put_in_or_edited_at_the_front_is_left_behind_once_for_all_steps():
    prompt, plain = resident(PARTS["word_prompt"], PARTS["lora_qv"]), resident(PARTS["seq_bn"])
    row = Row((prompt, average((plain,), (prompt,), weights=(1, 1))), None, None, IDS)
    policy = Continuation()
    behind = policy.behind(row, NOTHING)
    left, fork = behind.members
    assert behind.input_ids.tolist() == [10] and behind.positions == (0,) and behind.past is NOTHING
    assert behind.length == 1 and behind.insertion is None
    assert behind.first_position == 3 + 3  # the prompt's positions, and those of the tokens before
    assert left.adapter.methods == {"lora"} and left.arena is prompt.arena and left.start == prompt.start
    assert fork.arms == ((plain,), (left,))
    assert policy.behind(row, NOTHING).members[0] is left


def test_positions_are_counted_from_where_the_row_begins():
    later = replace(Row((), None, None, IDS), first_position=5)
    assert Continuation().behind(later, NOTHING).first_position == 8
    assert Continuation().behind(replace(later, members=(resident(EARLY),)), NOTHING).members[0].adapter.blocks == {}


def test_a_row_behind_a_past_is_one_token():
    with pytest.raises(InvalidRow, match="one token, not 4"):
        check_row(Row((), None, None, IDS, past=NOTHING), builders.profile(FAMILY).geometry)


@pytest.mark.parametrize(
    ("part", "decoded", "keeps"),
    [
        (builders.bottleneck(layers=[0], use_gating=True), 4, True),  # the encoder's row does not grow
        (builders.bottleneck(layers=[1], use_gating=True), 4, False),
        (reft(layers=[1], prefix_positions=3, suffix_positions=0), 4, True),
        (reft(layers=[1], prefix_positions=3, suffix_positions=0), 2, False),  # of the decoder's tokens
    ],
)
def test_of_an_encoder_decoder_what_stands_in_its_decoder_counts(part, decoded, keeps):
    (own,) = builders.in_one_arena([builders.adapter("t5", [part])])
    row = Row((own,), None, None, IDS, decoder_ids=IDS[:decoded])
    assert Continuation(builders.profile("t5").geometry.architecture).keeps(row) is keeps
