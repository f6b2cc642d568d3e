"""The record of DeBERTa-v2 and v3: BERT's sites, and an attention whose scores know relative positions."""

from adapters.architectures.demands import Demand
from adapters.architectures.record import Architecture, Junction

DEBERTA_V2 = Architecture(
    model_type="deberta-v2",
    prefix="deberta",
    layer="encoder.layer.{layer}",
    embeddings="embeddings",
    linear={
        "attn_q": "attention.self.query_proj",
        "attn_k": "attention.self.key_proj",
        "attn_v": "attention.self.value_proj",
        "attn_out": "attention.output.dense",
        "ffn_in": "intermediate.dense",
        "ffn_out": "output.dense",
    },
    attention="attention.self",
    attention_kind="disentangled",
    junctions={
        "attn_junction": Junction("attention.output.dense", "attention", "attention.output.LayerNorm"),
        "ffn_junction": Junction("output.dense", "intermediate", "output.LayerNorm"),
    },
    pooler=None,  # that of its classification model is a part of the head
    segment_ids=True,
    positions_after_pad=False,
    words="embeddings.word_embeddings",
    addends={
        "positions": "embeddings.position_embeddings",
        "segments": "embeddings.token_type_embeddings",
        "distances": "encoder.rel_embeddings",
    },
    norms={
        "attn_norm": "attention.output.LayerNorm",
        "ffn_norm": "output.LayerNorm",
        "embed_norm": "embeddings.LayerNorm",
        "distance_norm": "encoder.LayerNorm",
    },
    hub_class="DebertaV2AdapterModel",
    hub_bottlenecks={"attn_junction": "attention.output", "ffn_junction": "output"},
    demands=(
        Demand(
            "conv_kernel_size", (0,), "its convolution runs over neighbouring tokens, which packed rows must not see"
        ),
        Demand("embedding_size", (), "embeddings narrower than the layers are not served here", like="hidden_size"),
    ),
)
