"""The record of ModernBERT: norms before the sublayers, one map for queries, keys and values, a gated feed-forward.

AdapterHub reaches it through its interface for models that it has no code of its own for: bottlenecks act on the output
of a sublayer's last map, the residual that they see is the sublayer's input (normed already), and the model adds its
own. The norm that they are given at the attention is the *last* layer's `mlp_norm`, at every layer: the library looks
it up through a variable of a loop that has ended by then.
"""

from adapters.architectures.demands import Demand
from adapters.architectures.record import Architecture, Fused, Junction

_ROTARY = "rotary positions that change with the longest row of a batch are not served"

MODERNBERT = Architecture(
    model_type="modernbert",
    prefix="model",
    layer="layers.{layer}",
    replicable=False,  # the model hands each layer the positions of its kind
    embeddings="embeddings",
    linear={
        "attn_q": Fused("attn.Wqkv", 0, 3),
        "attn_k": Fused("attn.Wqkv", 1, 3),
        "attn_v": Fused("attn.Wqkv", 2, 3),
        "attn_out": "attn.Wo",
        "ffn_in": "mlp.Wi",
        "ffn_out": "mlp.Wo",
    },
    attention="attn",
    junctions={
        "attn_junction": Junction("attn.Wo", "attn", "mlp_norm", adds=False, last_norm=True),
        "ffn_junction": Junction("mlp.Wo", "mlp", None, adds=False),
    },
    pooler=None,
    segment_ids=False,
    positions_after_pad=False,
    ffn_parts=2,
    words="embeddings.tok_embeddings",
    norms={
        "attn_norm": "attn_norm",
        "ffn_norm": "mlp_norm",
        "embed_norm": "embeddings.norm",
        "final_norm": "final_norm",
    },
    bare_first=("attn_norm",),
    hub_class="ModernBertModel",
    hub_bottlenecks={"attn_junction": "attention_adapters", "ffn_junction": "output_adapters"},
    hub_prefix=None,
    defaults={"pad_token_id": 50283},
    demands=(
        Demand("rope_parameters.full_attention.rope_type", ("default", "linear"), _ROTARY),
        Demand("rope_parameters.sliding_attention.rope_type", ("default", "linear"), _ROTARY),
        Demand("rope_scaling", (), _ROTARY),
    ),
    refuses={
        "prefix_tuning": "ModernBERT takes no prefixes: its attention turns keys by their positions",
        "past_prefix": "ModernBERT takes no prefixes: its attention turns keys by their positions",
        "prompt_tuning": "ModernBERT takes no prompts: its attention sees a window of positions",
    },
)
