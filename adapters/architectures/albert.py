"""The record of ALBERT: few layer modules, each run several times in a pass, with one set of adapters for all runs.

Layer i of the record is module `i % inner` of group `i // inner`. Embeddings are narrower than the layers.
"""

from adapters.architectures.demands import ABSOLUTE
from adapters.architectures.record import Architecture, Junction

ALBERT = Architecture(
    model_type="albert",
    prefix="albert",
    replicable=False,
    embed_map="encoder.embedding_hidden_mapping_in",
    layer="encoder.albert_layer_groups.{group}.albert_layers.{inner}",
    embeddings="embeddings",
    linear={
        "attn_q": "attention.query",
        "attn_k": "attention.key",
        "attn_v": "attention.value",
        "attn_out": "attention.dense",
        "ffn_in": "ffn",
        "ffn_out": "ffn_output",
    },
    attention="attention",
    junctions={
        # The library passes its attention adapters the layer's input as f, and the attention's output as the residual.
        "attn_junction": Junction("attention.dense", "attention", "attention.LayerNorm", swapped=True),
        "ffn_junction": Junction("ffn_output", "ffn", "full_layer_layer_norm"),
    },
    pooler="pooler",
    segment_ids=True,
    positions_after_pad=False,
    words="embeddings.word_embeddings",
    addends={
        "positions": "embeddings.position_embeddings",
        "segments": "embeddings.token_type_embeddings",
    },
    norms={
        "attn_norm": "attention.LayerNorm",
        "ffn_norm": "full_layer_layer_norm",
        "embed_norm": "embeddings.LayerNorm",
    },
    hub_class="AlbertAdapterModel",
    hub_bottlenecks={"attn_junction": "attention.attention_adapters", "ffn_junction": "output_adapters"},
    post_norm=True,
    defaults={"type_vocab_size": 2, "embedding_size": 128, "num_hidden_groups": 1, "inner_group_num": 1},
    demands=(ABSOLUTE,),
)
