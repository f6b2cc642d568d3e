import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import AutoModel
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

from adapters.architectures.sites import Address
from adapters.backbone import Backbone
from adapters.batch.attention import Packing
from adapters.batch.disentangled import Distances, Places, PositionTable, Table, install, position_scores
from adapters.batch.rows import Row
from adapters.batch.segments import layout_of
from adapters.errors import UnknownArchitecture
from tests.adapters import builders
from tests.adapters.builders import PARTS

CPU = torch.device("cpu")


@pytest.mark.parametrize(("buckets", "farthest"), [(8, 40), (256, 512), (32, 128), (2, 9), (-1, 40), (-1, 7), (0, 5)])
def test_entries_are_those_of_the_model_for_every_distance(buckets, farthest):
    length = 600
    fake = torch.empty(1, length, 1)
    distance = build_relative_position(fake, fake, bucket_size=buckets, max_position=farthest)[0]
    entries = Distances(buckets, farthest).entries(length)
    span = buckets if buckets > 0 else farthest
    assert Distances(buckets, farthest).span == span
    assert torch.equal(entries[length - 1 :], (distance[:, 0] + span).clamp(0, 2 * span - 1))
    assert torch.equal(entries[:length].flip(0), (distance[0] + span).clamp(0, 2 * span - 1))


def test_rows_use_only_the_entries_of_their_own_distances():
    table = PositionTable(torch.zeros(32, 4), None, Distances(16, 64))
    packing = Packing(layout_of([3, 3]), CPU)
    places = table.places(packing, 3)
    assert (places.low, places.high) == (14, 19)
    assert places.index.tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert table.places(packing, 3) is places
    assert table.places(Packing(layout_of([3]), CPU), 3) is not places


def test_scores_are_the_papers_terms_with_each_rows_own_unit():
    torch.manual_seed(0)
    heads, width, length = 2, 4, 5
    q, k = torch.randn(2, 3, length, heads, width)
    keys, queries = torch.randn(2, 3, 12, heads, width)
    index = Distances(-1, 6).entries(length)[torch.arange(length)[:, None] - torch.arange(length) + length - 1]
    group = Packing(layout_of([length] * 3), CPU).groups((0, 0, 0))[0]
    units = [2, 0, 2]
    low = int(index.min())
    places = Places(low, int(index.max()) + 1, index - low)
    scores = position_scores(q, k, group, places, Table(keys, units), Table(queries, None))
    for row in range(3):
        for i in range(length):
            for j in range(length):
                entry = i - j + 6
                content = (q[row, i] * keys[units[row], entry]).sum(-1)
                assert torch.allclose(
                    scores[row, :, i, j], content + (k[row, j] * queries[0, entry]).sum(-1), atol=1e-5
                )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"share_att_key": False},
        {"position_buckets": -1},
        {"position_buckets": -1, "max_relative_positions": 6},
        {"position_buckets": 4, "max_relative_positions": 9, "norm_rel_ebd": "none"},
        {"pos_att_type": ["c2p"]},
        {"pos_att_type": ["p2c"], "share_att_key": False},
        {"pos_att_type": None},
        {"relative_attention": False},
        {"position_biased_input": True, "type_vocab_size": 2},
    ],
    ids=str,
)
def test_packed_rows_equal_the_plain_model_whatever_its_settings(settings):
    assert builders.apart_from_plain(builders.variant("deberta-v2", **settings)) < 1e-5


@pytest.mark.parametrize("site", ["attn_q", "attn_k"])
def test_an_adapter_at_queries_or_keys_acts_on_the_positions_of_its_own_rows_too(site):
    path = builders.variant("deberta-v2")
    spec = builders.lora((site,))
    package = builders.package("deberta-v2", [spec], seed=4)
    resident, other = builders.in_one_arena(
        [builders.adapter("deberta-v2", [spec], seed=4), builders.adapter("deberta-v2", [builders.lora()], seed=5)]
    )
    ids = builders.ids(1, 12)
    rows = [Row(members, None, None, ids) for members in ((), (other,), (resident,), (), (resident, other))]
    outs = Backbone.load(path).run(rows, ["hidden_state"] * 5)
    assert torch.allclose(outs[0], builders.plain_hidden(path, rows[0]), atol=1e-5)
    assert torch.allclose(outs[3], outs[0], atol=1e-5)
    merged = builders.variant("deberta-v2")
    weights = load_file(merged / "model.safetensors")
    for layer in range(builders.LAYERS):
        name = f"encoder.layer.{layer}.attention.self.{'query' if site == 'attn_q' else 'key'}_proj.weight"
        up, down = (package.tensors[f"{layer}/{site}/{name}"] for name in ("lora_B", "lora_A"))
        weights[name] += 1.7 * up @ down
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    assert torch.allclose(outs[2], builders.plain_hidden(merged, rows[0]), atol=2e-5)


def test_prefixes_are_seen_without_a_position():
    backbone, seen = builders.backbone("deberta-v2"), {}
    part = PARTS["prefix_flat"]
    package = builders.package("deberta-v2", [part], seed=2)
    resident = builders.in_one_arena([builders.adapter("deberta-v2", [part], seed=2)])[0]
    attention: nn.Module = backbone.model.encoder.layer[0].attention.self
    hook = attention.register_forward_hook(lambda module, args, out: seen.update(x=args[0], out=out[0]))
    backbone.run([Row((resident,), None, None, builders.ids(1, 6))], ["hidden_state"])
    plain: nn.Module = AutoModel.from_pretrained(builders.folder("deberta-v2")).eval().encoder
    hook.remove()
    self_ = plain.layer[0].attention.self
    with torch.no_grad():
        x, heads = seen["x"], self_.num_attention_heads
        q, k, v = (
            self_.transpose_for_scores(p(x), heads) for p in (self_.query_proj, self_.key_proj, self_.value_proj)
        )
        rel = self_.disentangled_attention_bias(q, k, plain.get_rel_pos(x), plain.get_rel_embedding(), 3)
        more = (
            package.tensors["model/attn_kv/control_trans"].view(3, 2 * builders.LAYERS, heads, -1).permute(1, 2, 0, 3)
        )
        scores = q @ torch.cat([more[0], k], dim=1).transpose(1, 2) / (3 * q.shape[-1]) ** 0.5
        scores = scores + functional.pad(rel, (3, 0))
        expected = (scores.softmax(-1) @ torch.cat([more[1], v], dim=1)).transpose(0, 1).reshape(x.shape)
    assert torch.allclose(seen["out"], expected, atol=1e-5)


def test_the_pass_builds_nothing_over_all_pairs_of_its_tokens():
    backbone, sizes = builders.backbone("deberta-v2"), []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    rows = [Row((), None, None, builders.ids(i, 2)) for i in range(100)]
    with Watch():
        backbone.run(rows, ["hidden_state"] * len(rows))
    assert 0 < max(sizes) < 200 * 200


def test_a_nan_adapter_beside_it_changes_no_row_by_a_bit():
    backbone = builders.backbone("deberta-v2")
    good, bad = builders.in_one_arena([builders.adapter("deberta-v2", [builders.lora()], seed=s) for s in (1, 2)])
    rows = [Row(members, None, None, builders.ids(1, 7)) for members in ((good,), (bad,), ())]
    before = backbone.run(rows, ["hidden_state"] * 3)
    for blocks in bad.adapter.blocks.values():
        for block in blocks:
            for span in block.spans.values():
                bad.view(span).fill_(float("nan"))
    after = backbone.run(rows, ["hidden_state"] * 3)
    assert torch.equal(before[0], after[0]) and torch.equal(before[2], after[2])
    assert torch.isnan(after[1]).all()


def test_gradients_reach_an_adapter_through_the_positions():
    backbone = builders.backbone("deberta-v2")
    resident = builders.in_one_arena([builders.adapter("deberta-v2", [builders.lora(("attn_k",))])])[0]
    resident.arena.nan_to_num_().requires_grad_()
    plan = backbone.plan([Row((resident,), None, None, builders.ids(1, 6))], [False])
    assert Address(0, "attn_k") in plan.relative.programs
    backbone.forward(plan).hidden.square().sum().backward()
    assert torch.isfinite(resident.arena.grad).all()
    assert float(resident.arena.grad.abs().sum()) > 0


def test_a_model_without_such_an_encoder_is_refused():
    with pytest.raises(UnknownArchitecture, match="table of relative positions"):
        install(nn.Linear(2, 2), [], None)
