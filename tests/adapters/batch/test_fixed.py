from dataclasses import fields, replace

import pytest
import torch

from adapters.architectures.sites import Address
from adapters.batch import fixed
from adapters.batch.attention import Packing
from adapters.batch.fixed import ReadOnHost, outline_of, tables
from adapters.batch.plan import BatchPlan
from adapters.batch.rows import Row
from tests.adapters import builders
from tests.adapters.builders import PARTS


def plan_of(*parts, lengths=(3, 5), without=0):
    """A plan of rows with an adapter each, and of rows without."""
    placed = builders.in_one_arena([builders.adapter("bert", [PARTS[part]], None, i) for i, part in enumerate(parts)])
    rows = [Row((held,), None, None, builders.ids(i, lengths[i % 2])) for i, held in enumerate(placed)]
    rows += [Row((), None, None, builders.ids(9, 4))] * without
    return builders.backbone("bert").plan(rows, [False] * len(rows))


def standing(plan):
    outline = outline_of(plan)
    given = {name: torch.from_numpy(array) for name, array in tables(plan, outline).items()}
    packing = Packing(plan.layout, plan.device, plan.kernels)
    return outline, fixed.fixed(plan, outline, packing, given)


def test_what_a_captured_plan_has_on_the_device_is_what_the_plan_has_filled_up():
    plan = plan_of("seq_bn", "seq_bn")
    outline, (bare, packing) = standing(plan)
    assert packing.starts[:3].tolist() == list(plan.layout.starts)
    assert packing.starts[-1] == outline.shape.tokens == 256
    for address, (own,) in plan.steps.items():
        (step,) = bare.steps[address]
        assert step.runs.places[:2].tolist() == own.runs.places.tolist()
        assert not step.runs.places[2:].any()
        for name, held in own.operand.params.items():
            assert step.operand.params[name].starts[:2].tolist() == held.starts.tolist()
            assert step.operand.params[name].shape == held.shape
            assert step.operand.params[name].arena is held.arena


def test_nothing_of_the_batch_is_known_on_the_host():
    _, (bare, packing) = standing(plan_of("seq_bn", "seq_bn"))
    (step,) = bare.steps[Address(0, "ffn_junction")]
    held = step.operand.params["down.weight"]
    x = torch.zeros(256, 32)
    for read in (
        lambda: step.runs.bounds,
        lambda: step.runs.rows,
        lambda: step.runs.lengths,
        lambda: step.runs.take(x),
        lambda: step.runs.put(x, x),
        lambda: step.runs.once("a", int),
        lambda: held.one(0),
        held.all,
        lambda: held.transposed(0),
        lambda: packing.layout,
        lambda: packing.groups((0,)),
    ):
        with pytest.raises(ReadOnHost, match="on the device alone"):
            read()
    assert (bare.rows, bare.order, bare.layout.rows, bare.heads, bare.pooled) == ((), (), 0, (), ())


def test_every_field_of_a_plan_was_thought_of():
    """A field that a captured pass reads must be in its key, lie in its tables, or be emptied: see `fixed.fixed`."""
    assert {field.name for field in fields(BatchPlan)} == {
        "order", "rows", "layout", "steps", "relative", "pooled", "heads", "device", "kernels",
        "target", "target_ids", "lanes",
    }  # fmt: skip


def test_a_decoder_behind_an_encoder_and_lanes_are_not_captured():
    plan = plan_of("seq_bn")
    assert outline_of(plan) is not None
    assert outline_of(replace(plan, target=plan.layout)) is None
    assert outline_of(replace(plan, lanes=(plan,))) is None


def test_tokens_that_leave_tell_whether_every_row_has_an_adapter():
    address = Address(0, "ffn_junction")
    for parts, without, due in ((("seq_bn", "plus_bn"), 0, True), (("seq_bn", "plus_bn"), 1, False)):
        outline, (bare, _) = standing(plan_of(*parts, without=without))
        assert (address in outline.whole) == due
        assert (sum(step.runs.count for step in bare.steps[address]) == 256) == due


def test_keys_tell_kinds_sizes_and_arenas_apart_and_nothing_else():
    key = lambda *parts, **more: outline_of(plan_of(*parts, **more)).key[2:]  # noqa: E731 - of other arenas
    same = key("seq_bn", "seq_bn")
    assert key("seq_bn", "seq_bn", lengths=(7, 2)) == same
    assert key("seq_bn") == same
    assert key(*["seq_bn"] * 17) != same
    assert key("seq_bn", without=1) != same
    assert key("lora_qv") != same
    assert key("seq_bn", "lora_qv") == key("lora_qv", "seq_bn")
    plan = plan_of("seq_bn")
    assert outline_of(plan).key == outline_of(plan).key
    assert outline_of(plan).key[1] != outline_of(kept := plan_of("seq_bn")).key[1]
    assert kept.steps


def test_a_place_of_a_parameter_is_in_the_tables_and_not_in_the_key():
    a, b = (builders.adapter("bert", [PARTS["seq_bn"]], None, seed) for seed in (1, 2))
    placed = builders.in_one_arena([a, b])
    plans = [builders.backbone("bert").plan([Row((held,), None, None, builders.ids(1, 4))], [False]) for held in placed]
    first, second = map(outline_of, plans)
    assert first.key == second.key
    assert not (tables(plans[0], first)["offsets"] == tables(plans[1], second)["offsets"]).all()
