"""Families that AdapterHub has no code of its own for: the interface file beside their adapters.

Their checkpoints are written from the base model, so that keys have no prefix; the library finds them in models with a
head as well.
"""

from collections.abc import Mapping
from typing import Any

from adapters.formats.adapterhub.envelope import WRITTEN_VERSION

FILE = "adapter_interface.json"
_MODERNBERT: Mapping[str, Any] = {
    "adapter_methods": ["bottleneck", "lora", "reft", "invertible"],
    "model_embeddings": "embeddings",
    "model_layers": "layers",
    "layer_self_attn": "attn",
    "layer_cross_attn": None,
    "attn_k_proj": None,
    "attn_q_proj": None,
    "attn_v_proj": None,
    "attn_qkv_proj": "Wqkv",
    "attn_o_proj": "Wo",
    "layer_intermediate_proj": "mlp.Wi",
    "layer_output_proj": "mlp.Wo",
    "layer_pre_self_attn": "attn",
    "layer_pre_cross_attn": None,
    "layer_pre_ffn": "mlp",
    "layer_ln_1": "mlp_norm",
    "layer_ln_2": None,
    "base_model": None,
}
_QWEN: Mapping[str, Any] = {
    "adapter_methods": ["bottleneck", "lora", "reft", "invertible"],
    "model_embeddings": "embed_tokens",
    "model_layers": "layers",
    "layer_self_attn": "self_attn",
    "layer_cross_attn": None,
    "attn_k_proj": "k_proj",
    "attn_q_proj": "q_proj",
    "attn_v_proj": "v_proj",
    "attn_qkv_proj": None,
    "attn_o_proj": "o_proj",
    "layer_intermediate_proj": "mlp.up_proj",
    "layer_output_proj": "mlp.down_proj",
    "layer_pre_self_attn": "input_layernorm",
    "layer_pre_cross_attn": None,
    "layer_pre_ffn": "post_attention_layernorm",
    "layer_ln_1": None,
    "layer_ln_2": None,
    "base_model": None,
}
INTERFACES: Mapping[str, Mapping[str, Any]] = {"modernbert": _MODERNBERT, "qwen2": _QWEN, "qwen3": _QWEN}


def interface(model_type: str) -> dict[str, Any] | None:
    """The interface file of a family; None where the library needs none."""
    found = INTERFACES.get(model_type)
    if found is None:
        return None
    return {"interface": dict(found), "model_type": model_type, "version": WRITTEN_VERSION}


def contradictions(saved: Mapping[str, Any], model_type: str) -> list[str]:
    """Places where a folder's interface file says something else than how the family is served."""
    expected, said = INTERFACES.get(model_type), saved.get("interface")
    if expected is None or not isinstance(said, Mapping):
        return []
    return [
        f"{FILE} says {member}={said[member]!r}, but this family is served with {value!r}"
        for member, value in expected.items()
        if member in said and member not in ("adapter_methods", "base_model") and said[member] != value
    ]
