import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch.chains import chains_of
from adapters.batch.program import Branch, Entry, build, chain_of_unit
from adapters.batch.rows import Row
from adapters.batch.workspace import Workspace
from tests.adapters import builders
from tests.adapters.batch.arrangements import average, split
from tests.adapters.builders import PARTS

FFN = Address(0, "ffn_junction")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def residents():
    return builders.in_one_arena([builders.adapter("bert", [PARTS["seq_bn"]], seed=i) for i in range(4)])


def program(members, lengths, space=None):
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    entries = [
        Entry((((start, end),),), chains_of([Row(held, None, None, builders.ids(1, end - start))])[FFN])
        for start, end, held in zip(starts, starts[1:], members, strict=False)
    ]
    return build(entries, space or Workspace(starts[-1], CPU))


def test_rows_of_one_adapter_that_touch_are_one_segment(residents):
    a, b = residents[:2]
    (step,) = program([(a,), (a,), (b,), (a,)], [2, 3, 1, 4])
    assert step.runs.bounds == ((0, 5), (5, 6), (6, 10))
    assert step.runs.rows == ((0, 2), (2, 5), (5, 6), (6, 10))


def test_depth_tells_which_rows_carry_a_state_and_which_leave(residents):
    a, b, c = residents[:3]
    items = program([(a, b), (a, c), (a,)], [2, 2, 2])
    assert sorted((item.first, item.leaves, item.runs.bounds) for item in items) == [
        (False, True, ((0, 2), (2, 4))),
        (True, False, ((0, 4),)),
        (True, True, ((4, 6),)),
    ]


def test_arms_lie_one_after_another_and_rows_of_one_adapter_in_an_arm_are_one_segment(residents):
    a, b = residents[:2]
    fork = average((a,), (b,), weights=[1, 3])
    (branch,) = program([(fork,), (fork,)], [2, 3])
    assert isinstance(branch, Branch)
    assert branch.spread.tolist() == [0, 1, 2, 3, 4] * 2
    assert branch.weight.flatten().tolist() == [0.125] * 5 + [0.375] * 5
    (step,) = branch.program
    assert step.runs.bounds == ((0, 5), (5, 10))
    assert not step.leaves
    assert not step.enters


def test_splits_give_every_arm_its_own_tokens_and_short_rows_give_later_arms_fewer(residents):
    a, b = residents[:2]
    fork = split((a,), (b,), splits=[2, 3])
    (branch,) = program([(fork,), (fork,), (fork,)], [5, 1, 3])
    assert branch.spread.tolist() == [0, 1, 5, 6, 7, 2, 3, 4, 8]
    marks = torch.arange(9.0)[:, None]
    assert branch.combine(marks[branch.spread]).flatten().tolist() == marks.flatten().tolist()


def test_equal_forks_of_many_layers_share_their_index_tensors(residents):
    fork = average((residents[0],), (residents[1],), weights=[1, 1])
    space = Workspace(5, CPU)
    one, two = (program([(fork,), (fork,)], [2, 3], space)[0] for _ in range(2))
    assert one.spread is two.spread
    assert one.runs is two.runs
    assert one.program[0].runs is two.program[0].runs


def test_forks_with_different_numbers_of_arms_run_apart(residents):
    a, b, c = residents[:3]
    two, three = average((a,), (b,), weights=[1, 1]), average((a,), (b,), (c,), weights=[1, 1, 1])
    items = program([(two,), (three,), (a,)], [2, 2, 2])
    assert sorted(item.arms if isinstance(item, Branch) else 1 for item in items) == [1, 2, 3]


def test_units_that_differ_in_who_brings_a_block_are_one_entry_with_a_segment_for_each(residents):
    a, b, c = residents[:3]
    chain = chains_of([Row(held, None, None, builders.ids(1, 2)) for held in ((a, b), (a, c))])[FFN]
    units = ((((0, 2),)), ((2, 3), (3, 5)))
    first, second = build([Entry(units, chain)], Workspace(5, CPU))
    assert first.runs.bounds == ((0, 5),)
    assert second.runs.bounds == ((0, 2), (2, 5))
    assert second.runs.rows == ((0, 2), (2, 3), (3, 5))
    span = b.adapter.blocks[FFN][0].spans["up.bias"]
    assert torch.equal(second.operand.params["up.bias"].all(), torch.stack([b.view(span), c.view(span)]))
    (_, alone) = build([Entry(units[1:], chain_of_unit(chain, 1))], Workspace(5, CPU))
    assert torch.equal(alone.operand.params["up.bias"].one(0), c.view(span))


def test_blocks_of_one_kin_are_read_from_where_each_adapter_has_them():
    parts = [[PARTS["seq_bn"]], [PARTS["lora_qv"], PARTS["seq_bn"]]]
    held = builders.in_one_arena([builders.adapter("bert", own) for own in parts])
    (step,) = program([(one,) for one in held], [2, 3])
    weights = [one.view(one.adapter.blocks[FFN][0].spans["up.weight"]) for one in held]
    assert torch.equal(step.operand.params["up.weight"].all(), torch.stack(weights))
