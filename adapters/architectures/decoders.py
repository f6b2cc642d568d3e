"""Records of the decoders: causal attention, and norms in front of the sublayers.

Adapters act on the output of a sublayer's last map; what follows is the model's own sum with the residual, which is
what the norm in front of the sublayer reads. LLaMA's feed-forward is gated: W_out (act(W_gate x) * W_in x).
"""

from dataclasses import replace

from adapters.architectures.demands import Demand
from adapters.architectures.record import Architecture, Fused, Junction

# A configuration without a pad id has none: -1 is the id of no token.
_NO_PAD = {"pad_token_id": -1}
_PROMPTS = {"prompt_tuning": "AdapterHub has no prompt tuning for this family"}
_ALONE = Demand("add_cross_attention", (False,), "attention to an encoder's states is not served for this family")

# Its maps are stored transposed (`Conv1D`), and are turned when they are loaded.
GPT2 = Architecture(
    model_type="gpt2",
    prefix="transformer",
    layer="h.{layer}",
    embeddings="drop",
    linear={
        "attn_q": Fused("attn.c_attn", 0, 3),
        "attn_k": Fused("attn.c_attn", 1, 3),
        "attn_v": Fused("attn.c_attn", 2, 3),
        "attn_out": "attn.c_proj",
        "ffn_in": "mlp.c_fc",
        "ffn_out": "mlp.c_proj",
    },
    attention="attn",
    junctions={
        "attn_junction": Junction("attn.c_proj", "ln_1", None, adds=False, removable=True),
        "ffn_junction": Junction("mlp.c_proj", "ln_2", None, adds=False, removable=True),
    },
    pooler=None,
    segment_ids=False,
    positions_after_pad=False,
    hub_class="GPT2AdapterModel",
    hub_bottlenecks={"attn_junction": "attention_adapters", "ffn_junction": "output_adapters"},
    words="wte",
    addends={"positions": "wpe"},
    norms={"attn_norm": "ln_1", "ffn_norm": "ln_2", "final_norm": "ln_f"},
    causal=True,
    turned=True,
    ffn_ratio=4,
    defaults={**_NO_PAD, "tie_word_embeddings": True},
    demands=(
        _ALONE,
        Demand("reorder_and_upcast_attn", (False,), "attention in another order and precision is not served"),
    ),
    refuses=_PROMPTS,
)

_ROTARY = "rotary positions that change with the longest row of a batch are not served"
_FIXED = ("default", "linear", "llama3", "yarn")

LLAMA = Architecture(
    model_type="llama",
    prefix="model",
    layer="layers.{layer}",
    embeddings=None,
    linear={
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_out": "self_attn.o_proj",
        "ffn_in": "mlp.up_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_out": "mlp.down_proj",
    },
    attention="self_attn",
    junctions={
        "attn_junction": Junction("self_attn.o_proj", "input_layernorm", None, adds=False, removable=True),
        "ffn_junction": Junction("mlp.down_proj", "post_attention_layernorm", None, adds=False, removable=True),
    },
    pooler=None,
    segment_ids=False,
    positions_after_pad=False,
    hub_class="LlamaAdapterModel",
    hub_bottlenecks={"attn_junction": "attention_adapters", "ffn_junction": "output_adapters"},
    # AdapterHub has them crossed, and trained adapters with them.
    hub_feed_forward={"intermediate_lora": "ffn_out", "output_lora": "ffn_in"},
    words="embed_tokens",
    norms={"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "final_norm": "norm"},
    causal=True,
    defaults=_NO_PAD,
    demands=tuple(
        Demand(member, _FIXED, _ROTARY)
        for member in ("rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type")
    ),
    refuses=_PROMPTS,
)

# Its window is the attention module's own affair, which tells it to whoever attends.
MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    hub_class="MistralAdapterModel",
    defaults={**_NO_PAD, "num_key_value_heads": 8},
)

# AdapterHub reaches it through its interface for models that it has no code of its own for.
QWEN2 = replace(
    LLAMA,
    model_type="qwen2",
    junctions={site: replace(junction, removable=False) for site, junction in LLAMA.junctions.items()},
    hub_class="Qwen2Model",
    hub_prefix=None,
    hub_feed_forward={"intermediate_lora": "ffn_in", "output_lora": "ffn_out"},
    defaults={**_NO_PAD, "num_key_value_heads": 32},
    refuses=_PROMPTS | {"prefix_tuning": "AdapterHub has no prefix tuning for this family"},
)

# Its queries and keys are normed head by head, behind their maps.
QWEN3 = replace(
    QWEN2,
    model_type="qwen3",
    hub_class="Qwen3Model",
    norms={**LLAMA.norms, "query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"},
    defaults={**_NO_PAD, "num_key_value_heads": 32, "head_dim": 128},
)
