from dataclasses import replace

import pytest
import torch

from adapters.architectures.families import ARCHITECTURES
from adapters.backbone import Backbone
from adapters.batch.post_norm import INPUTS
from adapters.batch.rows import Row
from tests.adapters import builders
from tests.adapters.builders import PARTS, takes

BUILT_SO = tuple(family for family in builders.FAMILIES if ARCHITECTURES[family].post_norm)


def rows_of(family: str) -> list[Row]:
    """A row for every part that the family takes, one with two of them, and a bare one."""
    parts = [part for part in PARTS.values() if takes(family, part)]
    held = builders.in_one_arena([builders.adapter(family, [part], seed=i) for i, part in enumerate(parts)])
    rows = [Row((own,), None, None, builders.ids(i, 3 + i % 7)) for i, own in enumerate(held)]
    return [*rows, Row((held[0], held[1]), None, None, builders.ids(90, 6)), Row((), None, None, builders.ids(91, 5))]


def own_modules(backbone: Backbone, rows: list[Row]) -> list[torch.Tensor]:
    """Last hidden states by the model's own modules, which run where gradients do."""
    plan = backbone.plan(rows, [False] * len(rows))
    hidden = backbone.forward(plan).hidden.detach()
    found = {given: hidden[slice(*plan.layout.bounds(at))] for at, given in enumerate(plan.order)}
    return [found[i] for i in range(len(rows))]


def test_the_families_built_as_bert_is_are_known():
    assert BUILT_SO == ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert")


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("family", BUILT_SO)
def test_a_pass_without_gradients_equals_the_model_s_own_modules(family, compiled):
    backbone, rows = builders.backbone(family, compiled=compiled), rows_of(family)
    expected = own_modules(builders.backbone(family, compiled=False), rows)
    for found, own in zip(backbone.run(rows, ["hidden_state"] * len(rows)), expected, strict=True):
        assert torch.allclose(found, own, atol=1e-5 * max(1.0, float(own.abs().max())))


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "silu", "quick_gelu"])
def test_activations_other_than_the_usual_one_are_the_model_s(activation):
    path = builders.variant("bert", hidden_act=activation)
    assert builders.apart_from_plain(path) < 1e-5


def test_no_layer_module_runs_where_no_gradient_does():
    backbone, calls = builders.backbone("bert"), []
    layer = backbone.model.encoder.layer[0]
    hooks = [
        module.register_forward_hook(lambda *_: calls.append(1)) for module in layer.modules() if module is not layer
    ]
    backbone.run([Row((), None, None, builders.ids(1, 4))], ["hidden_state"])
    assert not calls
    own_modules(backbone, [Row((), None, None, builders.ids(1, 4))])
    assert calls
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("family", BUILT_SO)
def test_the_maps_of_queries_keys_and_values_are_parts_of_one_and_held_once(family):
    backbone, record = builders.backbone(family), ARCHITECTURES[family]
    layer = backbone.model.get_submodule(record.layer_path(0))
    maps = [layer.get_submodule(record.linear[site]) for site in INPUTS]
    for name in ("weight", "bias"):
        assert len({getattr(linear, name).untyped_storage().data_ptr() for linear in maps}) == 1
        assert len({getattr(linear, name).data_ptr() for linear in maps}) == len(INPUTS)


def test_a_nan_in_one_row_stays_in_it():
    backbone = builders.backbone("bert")
    rows = rows_of("bert")
    before = backbone.run(rows, ["hidden_state"] * len(rows))
    bad = builders.in_one_arena([builders.adapter("bert", [PARTS["double_seq_bn"]], seed=77)])[0]
    good = rows[0].members[0]
    arena = torch.cat([good.arena, torch.full((bad.adapter.flat.numel(),), float("nan"))])
    moved = [replace(row, members=tuple(replace(m, arena=arena) for m in row.members)) for row in rows]
    poisoned = replace(bad, arena=arena, start=good.arena.numel() // 64)
    after = backbone.run([*moved, Row((poisoned,), None, None, builders.ids(5, 9))], ["hidden_state"] * (len(rows) + 1))
    assert torch.isnan(after[-1]).all()
    for old, new in zip(before, after[:-1], strict=True):
        assert torch.allclose(old, new, atol=1e-5 * max(1.0, float(old.abs().max())))
