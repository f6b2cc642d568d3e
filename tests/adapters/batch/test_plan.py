from dataclasses import replace

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.plan import plan_batch
from adapters.batch.rows import Fork, Row
from adapters.embeddings import token_embedding
from adapters.errors import InvalidArrangement, InvalidRow, InvalidRows
from adapters.manifest import PartSpec
from adapters.weights import alone
from tests.adapters import builders
from tests.adapters.builders import HEADS, PARTS

GEOMETRY = builders.profile("bert").geometry
CPU = torch.device("cpu")


def plan(rows):
    return plan_batch(rows, GEOMETRY, CPU, [row.head is not None for row in rows])


def residents(*cases, heads=None):
    found = [builders.adapter("bert", [PARTS[case]], heads, seed) for seed, case in enumerate(cases)]
    return builders.in_one_arena(found)


def row(*members, head=None, length=4, skip=frozenset()):
    return Row(members, head, None, builders.ids(1, length), None, skip)


def test_thirty_two_tasks_over_one_language_are_one_segment_for_the_language():
    language = residents("seq_bn")[0]
    tasks = residents(*["double_seq_bn"] * 8)
    made = plan([row(language, task) for task in tasks])
    first, second = made.steps[Address(0, "ffn_junction")]
    assert [(step.first, step.leaves) for step in (first, second)] == [(True, False), (False, True)]
    assert len(first.operand.runs.lengths) == 1
    assert len(second.operand.runs.lengths) == 8


def test_adapters_of_one_kin_share_an_operand_whatever_else_is_in_the_batch():
    mixed = residents("lora_qv", "seq_bn", "lora_qv", "ia3", "lora_qv")
    made = plan([row(r) for r in mixed])
    steps = made.steps[Address(0, "attn_q")]
    assert [len(step.operand.runs.lengths) for step in steps] == [3]
    assert steps[0].operand.runs is made.steps[Address(1, "attn_v")][0].operand.runs
    order = [made.order.index(i) for i in (0, 2, 4)]
    assert max(order) - min(order) == 2  # rows of one kin lie side by side


def test_near_ranks_share_an_operand():
    a = builders.adapter("bert", [builders.lora(rank=3)])
    b = builders.adapter("bert", [builders.lora(rank=7)])
    made = plan([row(r) for r in builders.in_one_arena([a, b])])
    assert [len(step.operand.runs.lengths) for step in made.steps[Address(0, "attn_q")]] == [2]


def test_adapters_do_not_act_in_skipped_layers():
    member = residents("seq_bn")[0]
    made = plan([row(member), row(member, skip=frozenset({0}))])
    assert made.steps[Address(0, "ffn_junction")][0].operand.runs.count == 4
    assert made.steps[Address(1, "ffn_junction")][0].operand.runs.count == 8


def test_the_order_brings_every_row_back():
    members = residents("lora_qv", "seq_bn")
    rows = [row(members[i % 2], length=2 + i) for i in range(5)]
    made = plan(rows)
    assert [rows[i].length for i in made.order] == [r.length for r in made.rows]
    assert sorted(made.order) == list(range(5))


def test_one_head_of_many_rows_is_one_segment_and_heads_of_one_shape_one_step():
    members = residents("lora_qv", "seq_bn", heads=HEADS["two_layers"])
    rows = [row(members[i % 2], head=members[i % 2]) for i in range(6)]
    (step,) = plan(rows).heads
    assert len(step.runs.lengths) == 2
    assert sorted(step.rows) == list(range(6))


def test_chains_through_maps_that_are_not_square_are_refused():
    lora, ia3, everywhere = residents("lora_qv", "ia3", "lora_all")
    with pytest.raises(InvalidRow, match="square"):
        plan([row(everywhere, everywhere)])
    plan([row(lora, lora), row(lora, ia3)])


def test_factors_of_inputs_do_not_chain():
    sides = [
        PartSpec("ia3", {"sites": builders.sites(["ffn_out"], at=side, scaling=1.0)}) for side in ("input", "output")
    ]
    inner, outer = builders.in_one_arena([builders.adapter("bert", [part]) for part in sides])
    for stack in ((inner, outer), (outer, inner), (inner, inner)):
        with pytest.raises(InvalidRow, match="0/ffn_out"):
            plan([row(*stack)])
    plan([row(inner), row(outer, outer)])


def test_one_position_asked_for_is_one_state_for_the_head():
    member = residents("lora_qv", heads=HEADS["tagging"])[0]
    some = Row((member,), member, None, builders.ids(1, 6), positions=(4, 1))
    (step,) = plan([row(member, head=member), some]).heads
    assert [end - start for start, end in step.ranges] == [4, 2]
    assert sorted(step.places.tolist()) == sorted([0, 1, 2, 3, 4 + 4, 4 + 1])


def test_prompts_push_asked_positions_behind_themselves_and_words_are_counted_from_them():
    member = residents("prompt", heads=HEADS["tagging"])[0]
    (step,) = plan([Row((member,), member, None, builders.ids(1, 6), positions=(0, 5))]).heads
    assert step.places.tolist() == [3, 8]
    (step,) = plan([Row((member,), member, None, builders.ids(1, 6), word_starts=(1, 3, 5))]).heads
    assert step.places.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_units_with_adapters_at_queries_or_keys_get_a_position_table_of_their_own():
    lora, bn, other = residents("lora_qv", "seq_bn", "ia3")
    rows = [row(lora), row(bn), row(other), row(lora), row()]
    geometry = replace(GEOMETRY, relative_positions=7, relative_maps=True)
    made = plan_batch(rows, geometry, CPU, [False] * 5)
    relative, order = made.relative, made.order
    apart = plan_batch(rows, replace(geometry, relative_maps=False), CPU, [False] * 5).relative
    assert (apart.units, apart.programs) == (1, {})
    of = {given: relative.unit_of_row[at] for at, given in enumerate(order)}
    assert relative.units == 3
    assert of[0] == of[3] != 0
    assert of[2] not in (0, of[0])
    assert of[1] == of[4] == 0
    assert set(relative.programs) == {Address(i, site) for i in (0, 1) for site in ("attn_q", "attn_k")}
    (step,) = relative.programs[Address(0, "attn_q")]
    assert step.runs.bounds == ((of[0] * 7, of[0] * 7 + 7),)


def test_adapters_of_two_arenas_are_never_read_from_one():
    a, b = (alone(builders.adapter("bert", [PARTS["lora_qv"]], None, seed)) for seed in (1, 2))
    with pytest.raises(InvalidRow, match="one arena"):
        plan([row(a), row(b)])


def test_rows_without_adapters_have_no_operands():
    assert not plan([row(), row()]).steps


def test_every_row_that_can_not_run_is_told_by_its_place_in_the_batch():
    lora, bn = residents("lora_qv", "seq_bn")
    odd = Fork("sum", ((bn,), (bn,)), (False, False))
    batch = [row(odd), row(lora), row(lora, length=41), row(odd, length=2), row(bn), row(odd, skip=frozenset({0}))]
    with pytest.raises(InvalidRows) as caught:
        plan(batch)
    faults = caught.value.faults
    assert list(faults) == [0, 2, 3, 5]
    assert [type(fault) for fault in faults.values()] == [InvalidArrangement, InvalidRow] + [InvalidArrangement] * 2
    assert "no sum" in str(faults[0])
    assert "41 tokens" in str(faults[2])
    assert plan([one for i, one in enumerate(batch) if i not in faults]).layout.rows == 2


def test_a_row_is_judged_for_itself_whatever_rows_of_its_shape_are_beside_it():
    one, two = residents("word_rows", "word_rows")
    other = token_embedding(builders.embedding_package("bert"), torch.float32)
    sound, odd = row(one), replace(row(one), embedding=other)
    for batch, wrong in (([sound, odd], [1]), ([odd, sound], [0]), ([row(two), odd, sound], [1])):
        with pytest.raises(InvalidRows) as caught:
            plan(batch)
        assert list(caught.value.faults) == wrong
        assert "own vocabulary" in str(caught.value.faults[wrong[0]])
