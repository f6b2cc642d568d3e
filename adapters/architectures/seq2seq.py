"""Records of the encoder-decoders: a decoder whose layers attend to the encoder's last states as well as to themselves.

T5 (Raffel et al. 2020, arXiv:1910.10683) has norms by mean squares in front of its sublayers, maps without biases, and no
positions: every head adds a bias of the distance to its scores, which are not scaled. BART (Lewis et al. 2020,
arXiv:1910.13461) is built as BERT is, with a third sublayer in its decoder; mBART has its norms in front.
"""

from dataclasses import replace

from adapters.architectures.demands import Demand
from adapters.architectures.record import Architecture, Decoder, Junction

_REFUSED = {
    "prompt_tuning": "AdapterHub has no prompt tuning for this family",
}


def _before(sublayer: str, norm: str) -> Junction:
    return Junction(sublayer, norm, None, adds=False, removable=True)


def _t5_attention(site: str, module: str) -> dict[str, str]:
    return {f"{site}_{letter}": f"{module}.{letter}" for letter in "qkv"} | {f"{site}_out": f"{module}.o"}


def _t5_feed_forward(layer: str) -> dict[str, str]:
    return {"ffn_in": f"{layer}.DenseReluDense.wi", "ffn_out": f"{layer}.DenseReluDense.wo"}


T5 = Architecture(
    model_type="t5",
    prefix="transformer",
    layer="encoder.block.{layer}",
    embeddings=None,
    linear={**_t5_attention("attn", "layer.0.SelfAttention"), **_t5_feed_forward("layer.1")},
    attention="layer.0.SelfAttention",
    junctions={
        "attn_junction": _before("layer.0.SelfAttention.o", "layer.0.layer_norm"),
        "ffn_junction": _before("layer.1.DenseReluDense.wo", "layer.1.layer_norm"),
    },
    pooler=None,
    segment_ids=False,
    positions_after_pad=False,
    hub_class="T5AdapterModel",
    hub_bottlenecks={"attn_junction": "layer.0", "ffn_junction": "layer.1"},
    words="shared",
    addends={
        "decoder_words": "shared",
        "distances": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
        "decoder_distances": "decoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    },
    norms={
        "attn_norm": "layer.0.layer_norm",
        "ffn_norm": "layer.1.layer_norm",
        "encoder_norm": "encoder.final_layer_norm",
        "final_norm": "decoder.final_layer_norm",
    },
    hub_prefix="encoder_prefix",
    decoder=Decoder(
        layer="decoder.block.{layer}",
        linear={
            **_t5_attention("attn", "layer.0.SelfAttention"),
            **_t5_attention("cross", "layer.1.EncDecAttention"),
            **_t5_feed_forward("layer.2"),
        },
        attention="layer.0.SelfAttention",
        cross_attention="layer.1.EncDecAttention",
        junctions={
            "attn_junction": _before("layer.0.SelfAttention.o", "layer.0.layer_norm"),
            "cross_junction": _before("layer.1.EncDecAttention.o", "layer.1.layer_norm"),
            "ffn_junction": _before("layer.2.DenseReluDense.wo", "layer.2.layer_norm"),
        },
        norms={
            "attn_norm": "layer.0.layer_norm",
            "cross_norm": "layer.1.layer_norm",
            "ffn_norm": "layer.2.layer_norm",
        },
        hub_bottlenecks={"attn_junction": "layer.0", "cross_junction": "layer.1", "ffn_junction": "layer.2"},
    ),
    gated_ffn={"ffn_in": "wi_1", "ffn_gate": "wi_0"},
    relative_bias=("encoder.block.0.layer.0.SelfAttention", "decoder.block.0.layer.0.SelfAttention"),
    max_tokens=1 << 15,
    scales_tied=True,
    defaults={"decoder_start_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": True},
    refuses=_REFUSED,
)

MT5 = replace(
    T5,
    model_type="mt5",
    hub_class="MT5AdapterModel",
    gated=True,
    scales_tied=False,  # no published model is tied, and transformers 5 scales none, whatever it writes down
    defaults={**T5.defaults, "tie_word_embeddings": False},
)

_SAME = "stacks of different sizes are not served"
_ATTENTION = {f"attn_{letter}": f"self_attn.{letter}_proj" for letter in "qkv"} | {"attn_out": "self_attn.out_proj"}
_CROSS = {f"cross_{letter}": f"encoder_attn.{letter}_proj" for letter in "qkv"} | {"cross_out": "encoder_attn.out_proj"}
_FEED_FORWARD = {"ffn_in": "fc1", "ffn_out": "fc2"}
_NORMS = {"attn_norm": "self_attn_layer_norm", "ffn_norm": "final_layer_norm"}
_BEHIND = {
    "attn_junction": Junction("self_attn.out_proj", "self_attn.q_proj", "self_attn_layer_norm"),
    "ffn_junction": Junction("fc2", "fc1", "final_layer_norm"),
}
_CROSS_BEHIND = {"cross_junction": Junction("encoder_attn.out_proj", "encoder_attn.q_proj", "encoder_attn_layer_norm")}
_HUB = {"attn_junction": "attention_adapters", "ffn_junction": "output_adapters"}

_BART_DECODER = Decoder(
    layer="decoder.layers.{layer}",
    linear={**_ATTENTION, **_CROSS, **_FEED_FORWARD},
    attention="self_attn",
    cross_attention="encoder_attn",
    junctions={**_BEHIND, **_CROSS_BEHIND},
    norms={**_NORMS, "cross_norm": "encoder_attn_layer_norm"},
    hub_bottlenecks={**_HUB, "cross_junction": "cross_attention_adapters"},
)

BART = Architecture(
    model_type="bart",
    prefix="model",
    layer="encoder.layers.{layer}",
    embeddings="encoder.layernorm_embedding",
    linear={**_ATTENTION, **_FEED_FORWARD},
    attention="self_attn",
    junctions=_BEHIND,
    pooler=None,
    segment_ids=False,
    positions_after_pad=False,
    hub_class="BartAdapterModel",
    hub_bottlenecks=_HUB,
    words="shared",
    addends={
        "decoder_words": "shared",
        "positions": "encoder.embed_positions",
        "decoder_positions": "decoder.embed_positions",
    },
    norms={
        **_NORMS,
        "embed_norm": "encoder.layernorm_embedding",
        "decoder_embed_norm": "decoder.layernorm_embedding",
    },
    hub_prefix="encoder_prefix",
    decoder=_BART_DECODER,
    position_offset=2,
    positions=("encoder.embed_positions", "decoder.embed_positions"),
    defaults={"pad_token_id": 1, "decoder_start_token_id": 2, "eos_token_id": 2, "tie_word_embeddings": True},
    demands=(
        Demand("decoder_ffn_dim", (), _SAME, like="encoder_ffn_dim"),
        Demand("decoder_attention_heads", (), _SAME, like="encoder_attention_heads"),
        # Untied, each stack has one; T5's read `shared` whatever is said.
        Demand("tie_word_embeddings", (True,), "stacks with tables of words of their own are not served"),
    ),
    refuses=_REFUSED,
)

MBART = replace(
    BART,
    model_type="mbart",
    hub_class="MBartAdapterModel",
    junctions={
        "attn_junction": _before("self_attn.out_proj", "self_attn_layer_norm"),
        "ffn_junction": _before("fc2", "final_layer_norm"),
    },
    norms={**BART.norms, "encoder_norm": "encoder.layer_norm", "final_norm": "decoder.layer_norm"},
    decoder=replace(
        _BART_DECODER,
        junctions={
            "attn_junction": _before("self_attn.out_proj", "self_attn_layer_norm"),
            "cross_junction": _before("encoder_attn.out_proj", "encoder_attn_layer_norm"),
            "ffn_junction": _before("fc2", "final_layer_norm"),
        },
        start="last",
    ),
)
