import pytest
import torch

from adapters.architectures.geometry import read_geometry
from adapters.architectures.modernbert import MODERNBERT
from adapters.architectures.sites import Address
from adapters.batch.rows import Row
from adapters.errors import UnknownArchitecture
from tests.adapters import builders


@pytest.mark.parametrize(
    "settings",
    [
        {"local_attention": 2},
        {"layer_types": ["sliding_attention", "full_attention"], "local_attention": 13},
        {"layer_types": ["sliding_attention", "sliding_attention"], "attention_bias": True, "mlp_bias": True},
        {"layer_types": ["full_attention", "full_attention"], "norm_bias": True},
    ],
)
def test_rows_longer_and_shorter_than_the_window_are_exact(settings):
    assert builders.apart_from_plain(builders.variant("modernbert", **settings)) < 1e-5


def test_the_three_sites_are_parts_of_one_map():
    assert [MODERNBERT.fused(Address(0, site)) for site in ("attn_q", "attn_k", "attn_v")] == [(0, 3), (1, 3), (2, 3)]
    assert {MODERNBERT.linear_path(Address(1, site)) for site in ("attn_q", "attn_v")} == {"layers.1.attn.Wqkv"}
    assert MODERNBERT.linear_sites()["attn.Wqkv"] == ("attn_q", "attn_k", "attn_v")


def test_adapters_at_the_attention_get_the_norm_of_the_last_layer_and_leave_the_residual_to_the_model():
    backbone = builders.backbone("modernbert")
    package = builders.package("modernbert", [builders.bottleneck(("attn_junction",), layers=[0])], seed=3)
    resident = builders.in_one_arena([builders.adapter("modernbert", [builders.bottleneck(("attn_junction",), layers=[0])], seed=3)])[0]  # fmt: skip
    held: dict[str, torch.Tensor] = {}
    layers = backbone.model.layers
    hooks = [
        layers[0].attn.register_forward_pre_hook(lambda module, args: held.update(r=args[0][0])),
        layers[0].attn.Wo.register_forward_pre_hook(lambda module, args: held.update(x=args[0][0])),
        layers[0].mlp_norm.register_forward_pre_hook(lambda module, args: held.update(out=args[0][0])),
    ]
    backbone.run([Row((resident,), None, None, builders.ids(3, 9))], ["hidden_state"])
    for hook in hooks:
        hook.remove()
    t = {name.removeprefix("0/attn_junction/"): tensor for name, tensor in package.tensors.items()}
    f = layers[0].attn.Wo.forward(held["x"])
    x = layers[1].mlp_norm(f + held["r"])
    change = torch.relu(x @ t["down.weight"].T + t["down.bias"]) @ t["up.weight"].T + t["up.bias"]
    assert torch.allclose(held["out"], held["r"] + f + change, atol=1e-5)  # layer 0 has no norm before its attention


def test_rotary_positions_that_depend_on_the_batch_are_refused():
    config = builders.config_json("modernbert")
    for member in ("full_attention", "sliding_attention"):
        turned = {**config["rope_parameters"], member: {"rope_type": "dynamic", "factor": 2.0}}
        with pytest.raises(UnknownArchitecture, match=f"{member}.rope_type is 'dynamic'"):
            read_geometry({**config, "rope_parameters": turned})
