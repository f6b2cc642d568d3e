"""Records of the families that are built as BERT is: absolute positions, and a norm behind every residual."""

from dataclasses import replace

from adapters.architectures.demands import ABSOLUTE, ENCODER
from adapters.architectures.record import Architecture, Junction

BERT = Architecture(
    model_type="bert",
    prefix="bert",
    layer="encoder.layer.{layer}",
    embeddings="embeddings",
    linear={
        "attn_q": "attention.self.query",
        "attn_k": "attention.self.key",
        "attn_v": "attention.self.value",
        "attn_out": "attention.output.dense",
        "ffn_in": "intermediate.dense",
        "ffn_out": "output.dense",
    },
    attention="attention.self",
    junctions={
        "attn_junction": Junction("attention.output.dense", "attention", "attention.output.LayerNorm"),
        "ffn_junction": Junction("output.dense", "intermediate", "output.LayerNorm"),
    },
    pooler="pooler.dense",
    segment_ids=True,
    positions_after_pad=False,
    words="embeddings.word_embeddings",
    addends={
        "positions": "embeddings.position_embeddings",
        "segments": "embeddings.token_type_embeddings",
    },
    norms={
        "attn_norm": "attention.output.LayerNorm",
        "ffn_norm": "output.LayerNorm",
        "embed_norm": "embeddings.LayerNorm",
    },
    hub_class="BertAdapterModel",
    hub_bottlenecks={"attn_junction": "attention.output", "ffn_junction": "output"},
    post_norm=True,
    defaults={"type_vocab_size": 2},
    demands=(ENCODER, ABSOLUTE),
)

ROBERTA = replace(
    BERT,
    model_type="roberta",
    prefix="roberta",
    positions_after_pad=True,
    hub_class="RobertaAdapterModel",
    defaults={"type_vocab_size": 2, "pad_token_id": 1},
)

# Its checkpoints have the prefix of RoBERTa's.
XLM_ROBERTA = replace(ROBERTA, model_type="xlm-roberta", hub_class="XLMRobertaAdapterModel")

# Embeddings may be narrower than the layers; the map between them comes behind `embeddings`.
ELECTRA = replace(
    BERT,
    model_type="electra",
    prefix="electra",
    embed_map="embeddings_project",
    pooler=None,
    hub_class="ElectraAdapterModel",
    defaults={"type_vocab_size": 2, "embedding_size": 128},
)

DISTILBERT = Architecture(
    model_type="distilbert",
    prefix="distilbert",
    layer="transformer.layer.{layer}",
    embeddings="embeddings",
    linear={
        "attn_q": "attention.q_lin",
        "attn_k": "attention.k_lin",
        "attn_v": "attention.v_lin",
        "attn_out": "attention.out_lin",
        "ffn_in": "ffn.lin1",
        "ffn_out": "ffn.lin2",
    },
    attention="attention",
    junctions={
        "attn_junction": Junction("attention.out_lin", "attention", "sa_layer_norm"),
        "ffn_junction": Junction("ffn.lin2", "ffn", "output_layer_norm"),
    },
    pooler=None,
    segment_ids=False,
    positions_after_pad=False,
    words="embeddings.word_embeddings",
    addends={"positions": "embeddings.position_embeddings"},
    norms={
        "attn_norm": "sa_layer_norm",
        "ffn_norm": "output_layer_norm",
        "embed_norm": "embeddings.LayerNorm",
    },
    hub_class="DistilBertAdapterModel",
    hub_bottlenecks={"attn_junction": "attention_adapters", "ffn_junction": "output_adapters"},
    hub_prefix="self",
    post_norm=True,
)
