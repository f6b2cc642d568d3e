from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from adapters.backbone import Backbone
from adapters.batch.plan import plan_batch
from adapters.batch.rows import Row
from adapters.embeddings import token_embedding
from adapters.errors import InvalidRow, InvalidRows
from tests.adapters import builders
from tests.adapters.builders import FAMILIES, HEADS, PARTS


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_equal_the_plain_padded_model(family):
    backbone = builders.backbone(family)
    rows = [Row((), None, None, builders.ids(n, n)) for n in (1, 7, 3, 7, 20)]
    model = AutoModel.from_pretrained(builders.folder(family), attn_implementation="eager").eval()
    pad = backbone.profile.geometry.pad_token_id
    ids = torch.full((len(rows), 20), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : row.length], mask[i, : row.length] = torch.from_numpy(row.input_ids), 1
    with torch.no_grad():
        padded = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for i, out in enumerate(backbone.run(rows, ["hidden_state"] * len(rows))):
        assert torch.allclose(out, padded[i, : rows[i].length], atol=1e-5)


def test_segment_ids_reach_the_model():
    row = Row((), None, None, builders.ids(1, 6), np.array([0, 0, 0, 1, 1, 1]))
    out = builders.backbone("bert").run([row], ["hidden_state"])[0]
    assert torch.allclose(out, builders.plain_hidden("bert", row), atol=1e-5)
    other = builders.backbone("bert").run([Row((), None, None, row.input_ids)], ["hidden_state"])[0]
    assert not torch.allclose(out, other, atol=1e-2)


def test_roberta_rows_keep_the_familys_position_rule_when_a_vocabulary_uses_the_pad_id():
    row = Row((), None, None, np.array([5, 1, 6, 1, 7]))
    out = builders.backbone("roberta").run([row], ["hidden_state"])[0]
    assert torch.allclose(out, builders.plain_hidden("roberta", row), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_one_batch_may_use_different_vocabularies(family):
    backbone = builders.backbone(family)
    vocabularies = [token_embedding(builders.embedding_package(family, seed=s), torch.float32) for s in (3, 4)]
    part = PARTS["prompt" if builders.takes(family, PARTS["prompt"]) else "invertible"]
    adapter = builders.in_one_arena([builders.adapter(family, [part])])[0]
    ids = builders.ids(1, 6) % 50
    rows = [Row(members, None, vocabulary, ids) for members in ((), (adapter,)) for vocabulary in (None, *vocabularies)]
    mixed = backbone.run(rows, ["hidden_state"] * len(rows))
    for row, out in zip(rows, mixed, strict=True):
        assert torch.allclose(out, backbone.run([row], ["hidden_state"])[0], atol=1e-5)
    assert not torch.allclose(mixed[0], mixed[1], atol=1e-2)
    model = AutoModel.from_pretrained(builders.folder(family), attn_implementation="eager").eval()
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(vocabularies[0].matrix))
    with torch.no_grad():
        expected = model(input_ids=torch.from_numpy(ids)[None]).last_hidden_state[0]
    assert torch.allclose(mixed[1], expected, atol=1e-5)


def test_ids_outside_of_the_rows_vocabulary_are_refused():
    with pytest.raises(InvalidRow, match="vocabulary of 90"):
        builders.backbone("bert").run([Row((), None, None, np.array([90]))], ["hidden_state"])


def test_of_rows_whose_ids_are_outside_each_is_named_and_the_others_are_not():
    good = [Row((), None, None, builders.ids(seed, 5)) for seed in (1, 2)]
    bad = [Row((), None, None, np.array(ids)) for ids in ([5, 90], [-1, 6, 7])]
    with pytest.raises(InvalidRows) as caught:
        builders.backbone("bert").run([bad[0], good[0], bad[1], good[1]], ["hidden_state"] * 4)
    assert set(caught.value.faults) == {0, 2}


@pytest.mark.parametrize("name", HEADS)
def test_heads_compute_what_their_formula_says(name):
    backbone = builders.backbone("bert")
    package = builders.package("bert", [PARTS["lora_qv"]], HEADS[name], seed=5)
    resident = builders.in_one_arena([builders.adapter("bert", [PARTS["lora_qv"]], HEADS[name], seed=5)], slack=1)[0]
    row = Row((resident,), resident, None, builders.ids(2, 6))
    hidden, logits = backbone.run([row], ["hidden_state"])[0], backbone.run([row], ["logits"])[0]
    spec, x = HEADS[name], hidden if HEADS[name].pooling == "tokens" else hidden[0]
    if spec.pooling == "pooler":
        weights = load_file(builders.folder("bert") / "model.safetensors")
        x = torch.tanh(x @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
    for i in range(spec.layers):
        x = x @ package.tensors[f"head/{i}/weight"].T + package.tensors.get(f"head/{i}/bias", torch.zeros(()))
        if i < spec.layers - 1:
            x = torch.tanh(x) if spec.activation == "tanh" else torch.nn.functional.gelu(x)
    assert torch.allclose(logits, x, atol=1e-5)


def test_a_lora_on_the_pooler_acts_for_its_own_rows_only():
    backbone = builders.backbone("bert")
    plain, adapted = builders.in_one_arena(
        [
            builders.adapter("bert", [PARTS["seq_bn"]], HEADS["pooler"], seed=1),
            builders.adapter("bert", [builders.PartSpec("lora", {"sites": {"model/pooler": {"rank": 2, "scaling": 1.0}}})], HEADS["pooler"], seed=2),
        ]
    )  # fmt: skip
    ids = builders.ids(0, 5)
    rows = [
        Row((adapted,), adapted, None, ids),
        Row((plain,), plain, None, ids),
        Row((), adapted, None, ids),
        Row((adapted,), plain, None, builders.ids(1, 4)),
    ]
    alone = [backbone.run([row], ["logits"])[0] for row in rows]
    for mixed, single in zip(backbone.run(rows, ["logits"] * 4), alone, strict=True):
        assert torch.allclose(mixed, single, atol=1e-5)
    assert not torch.allclose(alone[0], alone[2], atol=1e-3)


def test_one_batch_is_one_forward_of_the_transformer():
    backbone, calls = builders.backbone("bert"), []
    hook = backbone.model.register_forward_hook(lambda *_: calls.append(1))
    parts = [part for part in PARTS.values() if builders.takes("bert", part)]
    assert len(parts) > 80  # all but those of other families
    residents = builders.in_one_arena([builders.adapter("bert", [part], seed=i) for i, part in enumerate(parts)])
    backbone.run([Row((r,), None, None, builders.ids(1, 4)) for r in residents], ["hidden_state"] * len(residents))
    hook.remove()
    assert len(calls) == 1


def test_the_backbone_is_frozen_and_its_bits_do_not_change():
    backbone = builders.backbone("bert")
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    resident = builders.in_one_arena([builders.adapter("bert", [PARTS["lora_all"]])])[0]
    backbone.run([Row((resident,), None, None, builders.ids(1, 4))], ["hidden_state"])
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())


def test_bfloat16_stays_near(tmp_path):
    backbone = Backbone.load(builders.folder("bert"), dtype=torch.bfloat16)
    row = Row((), None, None, builders.ids(1, 8))
    out = backbone.run([row], ["hidden_state"])[0]
    assert out.dtype == torch.float32
    assert torch.allclose(out, builders.plain_hidden("bert", row), atol=0.15)


def test_states_come_in_plan_order():
    backbone = builders.backbone("bert")
    rows = [Row((), None, None, builders.ids(i, 3 + i)) for i in range(3)]
    plan = plan_batch(rows, backbone.profile.geometry, backbone.device, [False] * 3)
    assert backbone.forward(plan).hidden.shape == (12, builders.HIDDEN)


def test_graphs_without_a_gpu_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="graphs need a CUDA device"):
        Backbone.load(builders.folder("bert"), graphs=True)


def test_a_decoder_s_words_of_another_vocabulary_are_as_they_were_trained():
    backbone, ids = builders.backbone("mbart"), builders.ids(1, 6)
    own = backbone.model.get_input_embeddings()
    assert own.embed_scale != 1.0
    package = builders.embedding_package("mbart", rows=builders.VOCABULARY)
    scaled = replace(token_embedding(package, torch.float32), matrix=own.weight.detach() * own.embed_scale)
    rows = [Row((), None, embedding, ids, decoder_ids=ids[:4]) for embedding in (None, scaled)]
    want, found = backbone.run(rows, ["hidden_state"] * 2)
    assert torch.allclose(found, want, atol=1e-5)


def test_a_decoder_s_token_outside_of_the_vocabulary_is_blamed_on_its_row():
    ids, outside = builders.ids(1, 5), np.array([3, builders.VOCABULARY])
    own = builders.in_one_arena([builders.adapter("t5", [PARTS["lora_qv"]])])
    rows = [Row(members, None, None, ids, decoder_ids=ids) for members in (own, (), own)]
    rows[2] = replace(rows[2], decoder_ids=outside)
    with pytest.raises(InvalidRows) as caught:
        builders.backbone("t5").run(rows, ["hidden_state"] * 3)
    assert list(caught.value.faults) == [2]


def test_rows_that_bring_their_encoders_states_are_not_mixed_with_rows_that_do_not():
    ids = builders.ids(1, 5)
    row = Row((), None, None, ids, decoder_ids=ids)
    brought = replace(row, encoded=torch.zeros(5, builders.HIDDEN))
    with pytest.raises(InvalidRow, match="either all rows"):
        builders.backbone("t5").run([row, brought], ["hidden_state"] * 2)
