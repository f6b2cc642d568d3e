from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from adapters.batch.rows import Row
from adapters.errors import InvalidRow
from adapters.methods.fold import fold
from adapters.passes import answer, side_by_side
from adapters.weights import ALIGN, Package
from tests.adapters import builders


def test_adapters_lie_side_by_side_in_one_arena_and_none_need_none():
    made = [builders.adapter("bert", [builders.PARTS[name]], seed=i) for i, name in enumerate(("seq_bn", "lora_qv"))]
    one, other = side_by_side(made, torch.device("cpu"))
    assert one.arena is other.arena
    assert (one.start, other.start) == (0, made[0].flat.numel() // ALIGN)
    block = next(iter(other.adapter.blocks.values()))[0]
    name, span = next(iter(block.spans.items()))
    alone = made[1].flat[span.offset * ALIGN :][: other.view(span).numel()].view(span.shape)
    assert name
    assert torch.equal(other.view(span), alone)
    assert side_by_side([], torch.device("cpu")) == []


def test_answers_come_in_the_order_given_and_equal_those_of_the_service():
    backbone = builders.backbone("bert")
    head = builders.HEADS["two_layers"]
    made = [builders.adapter("bert", [builders.PARTS[n]], head, i) for i, n in enumerate(("lora_qv", "seq_bn"))]
    one, other = side_by_side(made, backbone.device)
    rows = [
        Row((one,), one, None, builders.ids(1, 5)),
        Row((other,), None, None, builders.ids(2, 9)),
        Row((one, other), other, None, builders.ids(3, 4)),
        Row((), None, None, builders.ids(4, 2)),
    ]
    with torch.no_grad():
        found = answer(backbone, rows)
    want = ["logits", "hidden_state", "logits", "hidden_state"]
    for i, expected in enumerate(backbone.run(rows, want)):
        got = found.logits[i] if want[i] == "logits" else found.hidden[i]
        assert torch.allclose(got, expected, atol=1e-6)
    assert [len(state) for state in found.hidden] == [5, 9, 4, 2]
    assert found.logits[1].numel() == 0


@pytest.mark.parametrize("family", builders.FAMILIES)
def test_the_inputs_of_all_layers_are_those_of_transformers(family):
    ids = builders.ids(1, 6)
    found = answer(builders.backbone(family), [Row((), None, None, ids)], layers=True)
    model = AutoModel.from_pretrained(builders.folder(family), attn_implementation="eager").eval()
    with torch.no_grad():
        plain = model(input_ids=torch.from_numpy(np.asarray(ids))[None], output_hidden_states=True).hidden_states
    assert len(found.states) == len(plain) > builders.LAYERS
    for state, expected in zip(found.states, plain, strict=True):
        assert torch.allclose(state[0], expected[0], atol=1e-5)
    assert not builders.backbone(family).model._forward_pre_hooks


def test_tokens_that_a_prompt_inserts_are_in_no_state():
    backbone = builders.backbone("bert")
    (prompt,) = side_by_side([builders.adapter("bert", [builders.PARTS["prompt_after_bos"]])], backbone.device)
    row = Row((prompt,), None, None, builders.ids(1, 6))
    whole = backbone.run([row], ["hidden_state"])[0]
    own = answer(backbone, [row], layers=True)
    assert whole.shape[0] == 8
    assert torch.allclose(own.hidden[0], torch.cat([whole[:1], whole[3:]]), atol=1e-6)
    assert all(state[0].shape[0] == 6 for state in own.states)


def test_rows_of_two_routes_have_no_layers_in_common():
    backbone = builders.backbone("bert")
    package = builders.package("bert", [builders.PARTS["lora_qv"]])
    turned = Package(replace(package.manifest, route=(1, 0)), package.tensors)
    (routed,) = side_by_side([fold(turned, backbone.profile, torch.float32)], backbone.device)
    rows = [Row((routed,), None, None, builders.ids(1, 4)), Row((), None, None, builders.ids(1, 4))]
    with pytest.raises(InvalidRow, match="no layers in common"):
        answer(backbone, rows, layers=True)
    assert len(answer(backbone, rows[:1], layers=True).states) == 3
    assert len(answer(backbone, rows).states) == 1


def test_gradients_reach_what_was_folded():
    backbone = builders.backbone("bert")
    adapter = builders.adapter("bert", [builders.PARTS["seq_bn"]])
    flat = adapter.flat.clone().requires_grad_()
    (resident,) = side_by_side([type(adapter)(**{**vars(adapter), "flat": flat})], backbone.device)
    torch.autograd.backward(answer(backbone, [Row((resident,), None, None, builders.ids(1, 4))]).hidden[0].sum())
    assert flat.grad is not None
    assert bool(flat.grad.any())
