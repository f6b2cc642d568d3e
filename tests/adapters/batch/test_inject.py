from dataclasses import replace

import pytest
import torch

from adapters.architectures.encoders import BERT
from adapters.architectures.sites import Address
from adapters.batch import inject
from adapters.batch.attention import attend
from adapters.batch.inject import Injection
from adapters.batch.plan import plan_batch
from adapters.batch.rows import Row
from adapters.errors import UnknownArchitecture
from adapters.methods.bottleneck import reference
from adapters.methods.fold import fitting_of, fold
from adapters.methods.table import METHODS
from adapters.weights import alone
from tests.adapters import builders
from tests.adapters.builders import PARTS


def test_a_record_that_does_not_match_is_refused_with_every_missing_path():
    wrong = replace(BERT, attention="attn", linear={**BERT.linear, "attn_q": "nowhere"})
    with pytest.raises(UnknownArchitecture) as caught:
        Injection(builders.backbone("bert").model, wrong, builders.profile("bert").geometry)
    assert str(caught.value).count("nowhere") == builders.LAYERS
    assert "encoder.layer.1.attn" in str(caught.value)


def test_the_backbone_does_not_run_without_a_plan():
    with pytest.raises(RuntimeError, match="under a plan"):
        builders.backbone("bert").model(inputs_embeds=torch.zeros(1, 2, builders.HIDDEN))


def test_passes_do_not_nest_and_a_failed_pass_leaves_nothing_bound():
    backbone = builders.backbone("bert")
    row = Row((), None, None, builders.ids(0, 3))
    plan = plan_batch([row], backbone.profile.geometry, backbone.device, [False])
    with backbone._injection.bind(plan), pytest.raises(RuntimeError, match="already running"):
        backbone.forward(plan)
    with pytest.raises(ZeroDivisionError), backbone._injection.bind(plan):
        raise ZeroDivisionError
    backbone.forward(plan)


def test_stacked_bottlenecks_see_the_running_state_and_one_last_norm():
    backbone = builders.backbone("bert")
    low, top = builders.in_one_arena(
        [builders.adapter("bert", [PARTS["seq_bn"]], seed=1), builders.adapter("bert", [PARTS["seq_bn"]], seed=2)]
    )
    held = {}
    layer = backbone.model.encoder.layer[1]
    hooks = [
        layer.output.dense.register_forward_hook(lambda m, a, out: held.update(f=out.reshape(-1, builders.HIDDEN))),
        layer.intermediate.register_forward_pre_hook(lambda m, a: held.update(r=a[0].reshape(-1, builders.HIDDEN))),
    ]
    row = Row((low, top), None, None, builders.ids(3, 5))
    backbone.forward(backbone.plan([row], [False]))  # with gradients: the model's own modules run
    for hook in hooks:
        hook.remove()
    out = backbone.run([row], ["hidden_state"])[0]
    norm = layer.output.LayerNorm
    h = held["f"]
    for resident in (low, top):
        spans = next(b for a, bs in resident.adapter.blocks.items() if a == (1, "ffn_junction") for b in bs).spans
        p = {name: resident.view(span) for name, span in spans.items()}
        x = torch.nn.functional.layer_norm(h + held["r"], (builders.HIDDEN,), norm.weight, norm.bias, norm.eps)
        z = torch.relu(x @ p["down.weight"].T + p["down.bias"])
        h = h + z @ p["up.weight"].T + p["up.bias"]
    expected = torch.nn.functional.layer_norm(h + held["r"], (builders.HIDDEN,), norm.weight, norm.bias, norm.eps)
    assert torch.allclose(out, expected, atol=1e-5)


def test_stacked_prefixes_stand_with_the_upper_one_in_front(monkeypatch):
    backbone = builders.backbone("bert")
    low, top = builders.in_one_arena([builders.adapter("bert", [PARTS["prefix_flat"]], seed=s) for s in (1, 2)])
    seen = []

    def spy(q, k, v, packing, prefixes, scaling, window):
        seen.append(prefixes[0])
        return attend(q, k, v, packing, prefixes, scaling, window)

    monkeypatch.setattr(inject, "attend", spy)
    backbone.run([Row((low, top), None, None, builders.ids(3, 5))], ["hidden_state"])
    views = [r.view(r.adapter.blocks[Address(0, "attn_kv")][0].spans["keys_values"]) for r in (top, low)]
    assert torch.equal(seen[0], torch.cat(views, dim=1))


def test_albert_s_attention_adapters_get_f_and_r_in_each_other_s_place():
    backbone = builders.backbone("albert")
    part = builders.bottleneck(("attn_junction",), original_ln_before=False)
    package = builders.package("albert", [part], seed=4)
    resident = alone(fold(package, backbone.profile, torch.float32))
    layer = backbone.model.get_submodule(backbone.profile.geometry.architecture.layer_path(1)).attention
    held = {}
    hooks = [
        layer.register_forward_pre_hook(lambda m, a: held.update(r=a[0][0])),
        layer.dense.register_forward_hook(lambda m, a, out: held.update(f=out[0])),
        layer.LayerNorm.register_forward_hook(lambda m, a, out: held.update(out=out[0])),
    ]
    row = Row((resident,), None, None, builders.ids(3, 6))
    with_gradients = backbone.forward(backbone.plan([row], [False])).hidden
    for hook in hooks:
        hook.remove()
    assert torch.allclose(backbone.run([row], ["hidden_state"])[0], with_gradients, atol=1e-5)
    folded = METHODS["bottleneck"].fold(part.config, package.tensors, fitting_of(backbone.profile))
    norm = layer.LayerNorm

    def plain(x):
        return torch.nn.functional.layer_norm(x, (builders.HIDDEN,), norm.weight, norm.bias, norm.eps)

    f, r = held["r"], held["f"]
    assert torch.allclose(held["out"], reference(folded[Address(1, "attn_junction")], f, r, plain), atol=1e-5)
    assert not torch.allclose(held["out"], reference(folded[Address(1, "attn_junction")], r, f, plain), atol=1e-2)
