"""Replicated layers against a model that really has each of them several times."""

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel

from adapters.backbone import Backbone
from adapters.batch.lanes import plan_lanes, visits
from adapters.batch.rows import Row
from adapters.errors import InvalidArrangement, InvalidRows
from adapters.manifest import Manifest, PartSpec
from adapters.methods.fold import expected, fold
from adapters.weights import ALIGN, Package, alone
from tests.adapters import builders

ROUTE = (0, 1, 0, 1, 1)
FAMILIES = ("bert", "gpt2", "llama", "qwen2", "deberta-v2", "electra")


@cache
def deeper(family: str, route: tuple[int, ...]) -> Backbone:
    """The family's tiny backbone with its layers copied out along a route."""
    source = builders.folder(family)
    where = Path(mkdtemp(prefix="chorus-deeper-")) / family
    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers = len(route)
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = [config.layer_types[layer] for layer in route]
    model, stored = AutoModel.from_config(config), load_file(source / "model.safetensors")
    record = builders.profile(family).geometry.architecture
    layers = {f"{record.layer_path(layer)}.": layer for layer in range(builders.LAYERS)}
    state = {key: t for key, t in stored.items() if not key.startswith(tuple(layers))}
    for place, layer in enumerate(route):
        inside = f"{record.layer_path(layer)}."
        own = {key.removeprefix(inside): t for key, t in stored.items() if key.startswith(inside)}
        state |= {f"{record.layer_path(place)}.{key}": t for key, t in own.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("pooler" in name for name in missing)
    model.save_pretrained(where)
    return Backbone.load(where)


def packages(family: str, route: tuple[int, ...], seed: int, **settings) -> tuple[Package, Package]:
    """The same adapter on a route of the tiny backbone, and on the deeper one."""
    sites = builders.sites(("attn_q", "ffn_out"), range(len(route)), rank=3, scaling=1.3, **settings)
    parts = [PartSpec("lora", {"sites": sites})]
    if family in ("bert", "llama"):
        parts.append(PartSpec("norms", {"sites": {f"{len(route) - 1}/attn_norm": {"weight": True}}}))
    if family == "deberta-v2":
        parts.append(PartSpec("tables", {"sites": {"model/distances": {}}}))
        parts.append(PartSpec("norms", {"sites": {"model/distance_norm": {"weight": True, "bias": True}}}))
    far = builders.requires(family)
    deep = Manifest("adapter", replace(far, layers=len(route)), tuple(parts))
    shapes = expected(deep, deeper(family, route).profile)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    return Package(replace(deep, requires=far, route=route), tensors), Package(deep, tensors)


def both(family: str, route: tuple[int, ...], seed: int = 0, **settings):
    """(on the route, on the deeper model), folded, alone in their arenas."""
    shared, own = packages(family, route, seed, **settings)
    base, deep = builders.backbone(family), deeper(family, route)
    return (
        alone(fold(shared, base.profile, torch.float32, base.base_maps)),
        alone(fold(own, deep.profile, torch.float32, deep.base_maps)),
    )


def run(backbone, rows):
    return backbone.run(rows, ["hidden_state"] * len(rows))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("route", [ROUTE, (1,), (1, 0)])
def test_a_route_is_the_model_that_has_its_layers_so_often(family, route):
    adapter, own = both(family, route, **({"dora": "peft"} if family == "llama" else {}))
    rows = [Row((adapter,), None, None, builders.ids(n, n)) for n in (4, 9, 4)]
    alike = [replace(row, members=(own,)) for row in rows]
    for got, want in zip(run(builders.backbone(family), rows), run(deeper(family, route), alike), strict=True):
        assert torch.allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_several_routes_and_of_none_share_one_forward_pass(family):
    backbone = builders.backbone(family)
    insertion = "prompt" if builders.takes(family, builders.PARTS["prompt"]) else "word_prompt"
    held = builders.in_one_arena(
        [
            fold(packages(family, route, seed)[0], backbone.profile, torch.float32, backbone.base_maps)
            for seed, route in enumerate((ROUTE, ROUTE, (0, 1, 1)))
        ]
        + [builders.adapter(family, [builders.PARTS[name]]) for name in ("lora_qv", insertion)]
    )
    stacks = [(held[0],), (), (held[3],), (held[2],), (held[1],), (held[4],), (held[0],)]
    rows = [Row(stack, None, None, builders.ids(i, 3 + 2 * i)) for i, stack in enumerate(stacks)]
    passes = []
    hook = backbone.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        together = run(backbone, rows)
    finally:
        hook.remove()
    assert len(passes) == 1
    for row, got in zip(rows, together, strict=True):
        assert torch.allclose(got, run(backbone, [row])[0], atol=2e-5)
    assert not torch.allclose(together[0], run(backbone, [replace(rows[0], members=())])[0], atol=1e-2)


def test_heads_read_the_rows_of_every_lane():
    backbone = builders.backbone("bert")
    routed = fold(packages("bert", ROUTE, 0)[0], backbone.profile, torch.float32)
    held = builders.in_one_arena(
        [
            routed,
            builders.adapter("bert", [builders.PARTS["lora_qv"]]),
            builders.adapter("bert", [], builders.HEADS["pooler"]),
        ]
    )
    rows = [Row((member,), held[2], None, builders.ids(i, 6)) for i, member in enumerate((held[1], held[0], held[1]))]
    together = backbone.run(rows, ["logits"] * 3)
    for row, got in zip(rows, together, strict=True):
        assert torch.allclose(got, backbone.run([row], ["logits"])[0], atol=2e-5)


def test_the_model_is_as_it_was_after_a_pass_and_after_one_that_fails():
    backbone = builders.backbone("llama")
    layers, plain = backbone.model.layers, Row((), None, None, builders.ids(0, 5))
    before = run(backbone, [plain])[0]
    row = Row((both("llama", ROUTE)[0],), None, None, builders.ids(1, 5))
    run(backbone, [row])
    plan = backbone.plan([row], [False])
    with pytest.raises(ZeroDivisionError), backbone._injection.bind(plan):
        assert backbone.model.layers is not layers
        raise ZeroDivisionError
    assert backbone.model.layers is layers
    assert torch.equal(run(backbone, [plain])[0], before)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_gradients_reach_every_place_of_a_route(family):
    backbone = builders.backbone(family)
    adapter = fold(packages(family, ROUTE, 3)[0], backbone.profile, torch.float32)
    flat = adapter.flat.clone().requires_grad_()
    resident = alone(replace(adapter, flat=flat))
    plan = backbone.plan([Row((resident,), None, None, builders.ids(2, 7))], [False])
    backbone.forward(plan).hidden.square().sum().backward()
    spans = [span for blocks in adapter.blocks.values() for block in blocks for span in block.spans.values()]
    assert len(spans) > 2 * len(ROUTE)
    for span in spans:
        assert flat.grad[span.offset * ALIGN :][: math.prod(span.shape)].abs().sum() > 0


def test_every_visit_has_what_acts_at_its_place():
    resident = both("llama", ROUTE)[0]
    geometry = builders.profile("llama").geometry
    row = Row((resident,), None, None, builders.ids(0, 4))
    plan = plan_lanes([row, replace(row, members=())], geometry, torch.device("cpu"), [False, False])
    assert [lane.rows[0].route for lane in plan.lanes] == [ROUTE, None]
    assert not any(address.layer is not None for address in plan.steps)
    seen = list(visits(plan.lanes[0], geometry.layers))
    assert tuple(layer for layer, _ in seen) == ROUTE
    for layer, visit in seen:
        assert {address.layer for address in visit.steps} == {layer}
    assert [layer for layer, _ in visits(plan.lanes[1], geometry.layers)] == [0, 1]


def test_rows_without_a_route_have_no_lanes():
    row = Row((), None, None, builders.ids(0, 4))
    assert plan_lanes([row], builders.profile("bert").geometry, torch.device("cpu"), [False]).lanes == ()


def test_adapters_of_other_routes_are_not_for_one_row():
    other = alone(builders.adapter("llama", [builders.PARTS["lora_qv"]]))
    routed = both("llama", ROUTE)[0]
    for members in ((routed, other), (other, routed)):
        with pytest.raises(InvalidRows) as caught:
            run(builders.backbone("llama"), [Row(members, None, None, builders.ids(0, 4))])
        (fault,) = caught.value.faults.values()
        assert isinstance(fault, InvalidArrangement)
        assert "layer_replication" in str(fault)


def test_a_row_of_one_route_does_not_speak_for_another_of_its_shape():
    part = PartSpec("lora", {"sites": builders.sites(("attn_q",), range(len(ROUTE)), rank=2, scaling=1.0)})
    routes = (ROUTE, ROUTE, (0, 1, 1, 0, 1))
    profile, requires = builders.profile("bert"), builders.requires("bert")
    folded = []
    for route in routes:
        manifest = Manifest("adapter", requires, (part,), route=route)
        tensors = {name: torch.ones(shape) for name, shape in expected(manifest, profile).items()}
        folded.append(fold(Package(manifest, tensors), profile, torch.float32))
    one, two, elsewhere = builders.in_one_arena(folded)
    sound, odd = (Row(members, None, None, builders.ids(0, 4)) for members in ((one, two), (one, elsewhere)))
    for batch, wrong in (([sound, odd], 1), ([odd, sound], 0)):
        with pytest.raises(InvalidRows) as caught:
            run(builders.backbone("bert"), batch)
        assert list(caught.value.faults) == [wrong]
