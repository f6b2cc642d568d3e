import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from adapters.architectures.decoders import GPT2, LLAMA, MISTRAL, QWEN2
from adapters.architectures.geometry import read_geometry
from adapters.architectures.sites import Address
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import UnknownArchitecture
from adapters.methods.bottleneck import reference
from adapters.weights import Folded
from tests.adapters import builders

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}
SLIDING = {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("gpt2", {"n_inner": None}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"scale_attn_weights": False, "activation_function": "relu"}),
        ("llama", {"num_key_value_heads": None}),
        ("llama", {"num_key_value_heads": 1, "head_dim": 6}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_parameters": LLAMA3}),
        ("llama", {"rope_parameters": YARN}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0}}),
        ("mistral", {"sliding_window": 1}),
        ("mistral", {"sliding_window": 33}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", SLIDING),
        ("qwen3", SLIDING),
        ("qwen3", {"attention_bias": True}),
    ],
)
def test_rows_equal_the_plain_model_row_by_row(family, settings):
    assert builders.apart_from_plain(builders.variant(family, **settings)) < 1e-5


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_positions_that_change_with_the_longest_row_are_refused(family):
    config = builders.config_json(family)
    for member in ("rope_parameters", "rope_scaling"):
        with pytest.raises(UnknownArchitecture, match=f"{member}.rope_type is 'dynamic'"):
            read_geometry({**config, member: {"rope_type": "dynamic", "factor": 2.0}})


def test_a_gpt2_with_cross_attention_is_refused():
    with pytest.raises(UnknownArchitecture, match="add_cross_attention"):
        read_geometry({**builders.config_json("gpt2"), "add_cross_attention": True})


@pytest.mark.parametrize(
    ("family", "settings", "widths"),
    [
        ("gpt2", {}, (32, 32)),
        ("llama", {}, (32, 16)),
        ("llama", {"num_key_value_heads": None}, (32, 32)),
        ("mistral", {"num_key_value_heads": 1, "head_dim": 10}, (40, 10)),
        ("qwen3", {}, (48, 24)),
    ],
)
def test_widths_of_queries_and_keys(family, settings, widths):
    geometry = read_geometry({**builders.config_json(family), **settings})
    assert (geometry.linear_width("attn_q")[1], geometry.linear_width("attn_v")[1]) == widths
    assert geometry.linear_width("attn_out") == (widths[0], builders.HIDDEN)
    assert geometry.key_width == widths[1]


def test_members_that_a_config_leaves_out():
    bare = {"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 5}
    geometry = read_geometry(bare)
    assert (geometry.intermediate_size, geometry.pad_token_id) == (32, -1)
    config = builders.config_json("mistral")
    del config["num_key_value_heads"]
    assert read_geometry({**config, "num_attention_heads": 16}).key_heads == 8
    with pytest.raises(UnknownArchitecture, match="intermediate_size"):
        read_geometry({key: value for key, value in config.items() if key != "intermediate_size"})


def test_adapterhub_crosses_the_feed_forward_of_llama_and_mistral_alone():
    assert LLAMA.hub_feed_forward == MISTRAL.hub_feed_forward
    assert LLAMA.linear[LLAMA.hub_feed_forward["intermediate_lora"]] == "mlp.down_proj"
    assert QWEN2.linear[QWEN2.hub_feed_forward["intermediate_lora"]] == "mlp.up_proj"
    assert GPT2.linear[GPT2.hub_feed_forward["intermediate_lora"]] == "mlp.c_fc"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("name", ["seq_bn", "double_seq_bn", "par_bn", "plus_bn"])
@pytest.mark.parametrize("compiled", [True, False])
def test_bottlenecks_act_where_the_residual_is_added(family, name, compiled):
    """The layer's sums are those that the plain formula gives, with the residual or without it."""
    backbone = builders.backbone(family, compiled=compiled)
    part = builders.PARTS[name]
    part = builders.PartSpec("bottleneck", {**part.config, "sites": builders.sites(("ffn_junction",), [0], width=4)})
    adapter = builders.adapter(family, [part], seed=3)
    layer = backbone.model.get_submodule(GPT2.layer_path(0) if family == "gpt2" else LLAMA.layer_path(0))
    held = {}
    norm = layer.ln_2 if family == "gpt2" else layer.post_attention_layernorm
    hooks = [
        norm.register_forward_pre_hook(lambda _, args: held.update(r=args[0][0].clone())),
        layer.register_forward_hook(
            lambda _, args, out: held.update(out=(out[0] if isinstance(out, tuple) else out)[0])
        ),
    ]
    (resident,) = builders.in_one_arena([adapter])
    row = Row((resident,), None, None, builders.ids(3, 9))
    backbone.run([row], ["hidden_state"])
    adapted = held["out"]
    backbone.run([Row((), None, None, row.input_ids)], ["hidden_state"])
    for hook in hooks:
        hook.remove()
    f, r = held["out"] - held["r"], held["r"]
    folded = part_of(adapter, resident)
    whole = reference(folded, f, r, None)
    assert torch.allclose(adapted, whole, atol=1e-4)
    taken = reference(folded, f, r, None, adds=False, removable=True)
    assert torch.allclose(taken + r, whole, atol=1e-4)


def part_of(adapter, resident):
    """What the adapter is at the feed-forward of layer 0, as it was folded."""
    (block,) = adapter.blocks[Address(0, "ffn_junction")]
    return Folded(block.method, block.variant, {name: resident.view(span) for name, span in block.spans.items()})


def test_maps_of_gpt2_are_turned_once_and_hold_their_values():
    backbone = builders.backbone("gpt2")
    first = backbone.model.get_submodule("h.0.mlp.c_fc")
    assert isinstance(first, torch.nn.Linear)
    x = torch.randn(3, builders.HIDDEN, generator=torch.Generator().manual_seed(1))
    stored = load_file(builders.folder("gpt2") / "model.safetensors")
    wanted = x @ stored["h.0.mlp.c_fc.weight"] + stored["h.0.mlp.c_fc.bias"]
    assert torch.allclose(functional.linear(x, first.weight, first.bias), wanted, atol=1e-5)
    assert backbone.base_maps(Address(0, "ffn_in")).weight.shape == (48, builders.HIDDEN)


def test_the_invertible_adapter_of_a_family_without_an_embedding_module_acts_on_its_words():
    backbone = builders.backbone("llama")
    (resident,) = builders.in_one_arena([builders.adapter("llama", [builders.PARTS["invertible"]], seed=2)])
    held = []
    hook = backbone.model.layers[0].register_forward_pre_hook(lambda _, args: held.append(args[0][0].clone()))
    ids = builders.ids(1, 5)
    backbone.run([Row((resident,), None, None, ids)], ["hidden_state"])
    hook.remove()
    assert not torch.allclose(held[0], backbone.model.embed_tokens.weight[torch.from_numpy(ids)], atol=1e-2)


def test_a_model_loaded_with_a_language_head_is_the_same_model(tmp_path):
    torch.manual_seed(5)
    config = AutoConfig.from_pretrained(builders.folder("llama"))
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    row = Row((), None, None, np.array([5, 6, 7, 8]))
    out = Backbone.load(tmp_path).run([row], ["hidden_state"])[0]
    with torch.no_grad():
        wanted = model.model(torch.tensor([[5, 6, 7, 8]])).last_hidden_state[0]
    assert torch.allclose(out, wanted, atol=1e-5)
