"""The record of ViT: an image is a row of patches behind one class token, and norms stand in front of the sublayers."""

from adapters.architectures.demands import Demand
from adapters.architectures.record import Architecture, Junction, Spelling

VIT = Architecture(
    model_type="vit",
    prefix="vit",
    layer="layers.{layer}",
    embeddings="embeddings",
    linear={
        "attn_q": "attention.q_proj",
        "attn_k": "attention.k_proj",
        "attn_v": "attention.v_proj",
        "attn_out": "attention.o_proj",
        "ffn_in": "mlp.fc1",
        "ffn_out": "mlp.fc2",
    },
    attention="attention",
    junctions={
        "attn_junction": Junction("attention.o_proj", "layernorm_before", None, adds=False, removable=True),
        "ffn_junction": Junction("mlp.fc2", "layernorm_after", None, adds=False, removable=True),
    },
    norms={"attn_norm": "layernorm_before", "ffn_norm": "layernorm_after", "final_norm": "layernorm"},
    pooler="pooler.dense",
    segment_ids=False,
    positions_after_pad=False,
    hub_class="ViTAdapterModel",
    hub_bottlenecks={"attn_junction": "attention_adapters", "ffn_junction": "output.output_adapters"},
    words=None,
    addends={"patches": "embeddings.patch_embeddings.projection"},
    images=True,
    # The paths of transformers 4, which AdapterHub's keys and many of PEFT's have.
    former=Spelling(
        layer="encoder.layer.{layer}",
        linear={
            "attn_q": "attention.attention.query",
            "attn_k": "attention.attention.key",
            "attn_v": "attention.attention.value",
            "attn_out": "attention.output.dense",
            "ffn_in": "intermediate.dense",
            "ffn_out": "output.dense",
        },
        attention="attention.attention",
    ),
    defaults={
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
    },
    demands=(
        Demand("pooler_act", ("tanh",), "another activation behind the pooler is not served"),
        Demand("pooler_output_size", (), "a pooler of another width is not served", like="hidden_size"),
    ),
    refuses={
        "invertible": "AdapterHub has no invertible adapters for this family",
    },
)
