import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.chains import chains_of, check_members, key_of
from adapters.batch.program import Act, Fan
from adapters.batch.rows import Row
from adapters.embeddings import token_embedding
from adapters.errors import InvalidArrangement
from adapters.manifest import PartSpec
from tests.adapters import builders
from tests.adapters.batch.arrangements import add, average, split
from tests.adapters.builders import PARTS

FFN, EMBED = Address(0, "ffn_junction"), Address(None, "embed_out")


def residents(*parts):
    return builders.in_one_arena([builders.adapter("bert", [p], seed=i) for i, p in enumerate(parts)])


def row(*members, skip=frozenset()):
    return Row(members, None, None, builders.ids(1, 4), skip_layers=skip)


def test_a_chain_holds_only_those_that_have_a_block_at_the_address():
    bn, lora, other = residents(PARTS["seq_bn"], PARTS["lora_qv"], PARTS["double_seq_bn"])
    chains = chains_of([row(bn, lora, other)])
    assert [act.residents[0] for act in chains[FFN]] == [bn, other]
    assert [act.residents[0] for act in chains[Address(1, "attn_q")]] == [lora]
    assert [act.residents[0] for act in chains[Address(0, "attn_junction")]] == [other]


def test_skipped_layers_have_no_chains_but_the_whole_model_keeps_its_own():
    both = builders.in_one_arena([builders.adapter("bert", [PARTS["seq_bn"], PARTS["invertible"]])])[0]
    assert set(chains_of([row(both, skip=frozenset({0}))])) == {Address(1, "ffn_junction"), EMBED}


def test_only_the_first_adapter_acts_on_embeddings_and_layers_even_inside_of_a_fork():
    one, two = (
        builders.adapter("bert", [PARTS["seq_bn"], PARTS["invertible"], PARTS["loreft"]], seed=seed) for seed in (1, 2)
    )
    first, second = builders.in_one_arena([one, two])
    for members in ((first, second), (average((first,), (second,), weights=[1, 1]),)):
        chains = chains_of([row(*members)])
        for address in (EMBED, Address(0, "layer_out")):
            assert [act.residents[0] for act in chains[address]] == [first]
        assert chains[FFN][0].first.residents[0] is first


def test_the_invertible_adapter_comes_before_the_prompt_whatever_the_package_says():
    both = builders.in_one_arena([builders.adapter("bert", [PARTS["prompt"], PARTS["invertible"]])])[0]
    assert [act.block.method for act in chains_of([row(both)])[EMBED]] == ["invertible", "prompt_tuning"]


def test_arms_that_are_chains_enter_and_arms_of_one_adapter_do_not():
    a, b = residents(PARTS["seq_bn"], PARTS["seq_bn"])
    (fan,) = chains_of([row(split((a,), [b, a], splits=[2, 2]))])[FFN]
    assert isinstance(fan, Fan)
    assert [[act.enters for act in arm] for arm in fan.arms] == [[False], [True, True]]
    assert isinstance(fan.last, Act)
    assert fan.last.residents[0] is a


def test_averages_and_splits_must_have_every_arm_at_a_place():
    everywhere, below = residents(PARTS["seq_bn"], PARTS["one_layer_bn"])
    for fork in (average((everywhere,), (below,), weights=[1, 1]), split((everywhere,), (below,), splits=[2, 2])):
        with pytest.raises(InvalidArrangement, match="must act at the same places; at 0/ffn_junction"):
            chains_of([row(fork)])


def test_prefixes_can_not_be_forked():
    a, b = residents(PARTS["prefix_flat"], PARTS["prefix_flat"])
    with pytest.raises(InvalidArrangement, match="prefix_tuning has no average"):
        chains_of([row(average((a,), (b,), weights=[1, 1]))])


def test_a_sum_adds_loras_alone():
    a, b = residents(PARTS["lora_qv"], PARTS["ia3"])
    with pytest.raises(InvalidArrangement, match="sum"):
        chains_of([row(add((a,), (b,)))])


def test_a_sum_of_one_where_the_others_have_nothing_is_that_one():
    scaling, low = residents(PartSpec("ia3", {"sites": builders.sites(["attn_k"])}), PARTS["lora_qv"])
    chains = chains_of([row(add((scaling,), (low,)))])
    (act,) = chains[Address(0, "attn_k")]
    assert act.residents == (scaling,)
    (act,) = chains[Address(0, "attn_q")]
    assert act.residents == (low,)


def test_equal_trees_have_equal_keys_and_other_trees_have_others():
    a, b = residents(PARTS["seq_bn"], PARTS["seq_bn"])

    def tree(*weights):
        return row(average((a,), (b,), weights=weights))

    assert key_of(tree(1, 2)) == key_of(tree(1, 2))
    others = [tree(2, 1), row(average((a,), [b], weights=[1, 2])), row(a, b), row(split((a,), (b,), splits=[1, 9]))]
    assert len({key_of(other) for other in (tree(1, 2), *others)}) == 5
    assert key_of(row(a)) != key_of(row(a, skip=frozenset({0})))


def test_a_factor_of_inputs_can_not_chain():
    sides = [PartSpec("ia3", {"sites": builders.sites(["ffn_out"], at=side)}) for side in ("input", "output")]
    inner, outer = residents(*sides)
    with pytest.raises(InvalidArrangement, match="be followed by"):
        chains_of([row(inner, outer)])
    with pytest.raises(InvalidArrangement, match="can not follow"):
        chains_of([row(outer, inner)])


def test_full_deltas_add_and_chain_as_loras_do():
    for case in ("delta", "hira", "shira", "adalora"):
        low, full = residents(PARTS["lora_all"], PARTS[case])
        assert chains_of([row(add((low,), (full,)))])
        assert chains_of([row(average((low,), (low,), weights=[1, 1]))])
    square = {"sites": builders.sites(["attn_q"])}
    one, two = residents(PartSpec("delta", square), PartSpec("delta", square))
    assert len(chains_of([row(one, two)])[Address(0, "attn_q")]) == 2


def test_vectors_beside_the_frozen_bias_are_arranged_as_deltas_are_and_biases_in_its_place_are_not():
    beside, low, instead = residents(PARTS["beft"], PARTS["lora_qv"], PARTS["biases"])
    twice = ((beside,), (beside,))
    for members in ((add(*twice),), (average(*twice, weights=[1, 1]),), (beside, low), (low, beside)):
        assert chains_of([row(*members)])
    with pytest.raises(InvalidArrangement, match="sum"):
        chains_of([row(add((instead,), (instead,)))])
    with pytest.raises(InvalidArrangement, match="follow"):
        chains_of([row(instead, low)])


@pytest.mark.parametrize("case", ["boft", "hra", "oft", "road"])
def test_what_turns_a_map_is_arranged_with_nothing_there(case):
    turning, low = residents(PARTS[case], PARTS["lora_all"])
    assert chains_of([row(turning)])
    for members in ((turning, low), (low, turning)):
        with pytest.raises(InvalidArrangement, match=r"(be followed by|can not follow)"):
            chains_of([row(*members)])
    for fork in (add((turning,), (turning,)), average((turning,), (turning,), weights=[1, 1])):
        with pytest.raises(InvalidArrangement):
            chains_of([row(fork)])


@pytest.mark.parametrize("case", ["word_prompt", "past_prefix"])
def test_what_has_positions_is_the_first_adapter_or_none(case):
    lora, other = residents(PARTS["lora_qv"], PARTS[case])
    check_members(row(other, lora))
    assert chains_of([row(other, lora)])
    with pytest.raises(InvalidArrangement, match="must be the first adapter"):
        check_members(row(lora, other))
    with pytest.raises(InvalidArrangement, match="must be the first adapter"):
        check_members(row(add((lora,), (other,))))


@pytest.mark.parametrize("case", ["word_rows", "lora_words"])
def test_changes_of_the_backbones_words_do_not_go_with_another_vocabulary(case):
    (resident,) = residents(PARTS[case])
    embedding = token_embedding(builders.embedding_package("bert"), torch.float32)
    with pytest.raises(InvalidArrangement, match="own vocabulary"):
        check_members(Row((resident,), None, embedding, builders.ids(1, 4)))


def test_changes_of_words_add_up_but_do_not_follow_one_another():
    one, two, rows = residents(PARTS["lora_words"], PARTS["lora_words"], PARTS["word_rows"])
    assert [act.apart for act in chains_of([row(add((one,), (two,)))])[Address(None, "words")]] == [True, True]
    for members in ((one, two), (one, rows), (rows, one)):
        with pytest.raises(InvalidArrangement, match="another adapter at model/words"):
            chains_of([row(*members)])
