"""Tiny seeded backbones of every family, and random packages of every method: what the library's tests stand on."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, BertConfig, DistilBertConfig, RobertaConfig

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec, Requires
from adapters.methods.fold import expected, fold
from adapters.methods.presets import SEQ_BN
from adapters.weights import ALIGN, Adapter, Package, Resident

FAMILIES = ("bert", "roberta", "distilbert")
LAYERS, HIDDEN, VOCABULARY = 2, 32, 90
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
_CONFIGS = {
    "bert": lambda: BertConfig(**_SIZES),
    "roberta": lambda: RobertaConfig(**_SIZES, type_vocab_size=1, pad_token_id=1),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=HIDDEN,
        n_layers=LAYERS,
        n_heads=4,
        hidden_dim=48,
        max_position_embeddings=40,
        initializer_range=0.3,
    ),
}


@cache
def folder(family: str) -> Path:
    """A model folder of a family with seeded weights, made once per process."""
    path = Path(mkdtemp(prefix=f"chorus-{family}-")) / f"{family}-tiny"
    torch.manual_seed(7)
    AutoModel.from_config(_CONFIGS[family]()).save_pretrained(path)
    return path


@cache
def backbone(family: str) -> Backbone:
    """The loaded backbone of a family."""
    return Backbone.load(folder(family))


def profile(family: str) -> BackboneProfile:
    """The profile of a family's folder."""
    return read_profile(folder(family))


def plain_hidden(family: str, row: Row) -> torch.Tensor:
    """Last hidden states of a row under transformers' own model, [tokens, hidden]."""
    model = AutoModel.from_pretrained(folder(family), attn_implementation="eager").eval()
    inputs = {"input_ids": torch.from_numpy(np.asarray(row.input_ids, np.int64))[None]}
    if row.type_ids is not None:
        inputs["token_type_ids"] = torch.from_numpy(np.asarray(row.type_ids, np.int64))[None]
    with torch.no_grad():
        return model(**inputs).last_hidden_state[0]


def sites(names: Sequence[str], layers: Sequence[int] = range(LAYERS), **settings: Any) -> dict[str, Any]:
    """The member `sites` of a part's configuration."""
    return {f"{layer}/{name}": dict(settings) for layer in layers for name in names}


def bottleneck(names: Sequence[str] = ("ffn_junction",), width: int = 4, **settings: Any) -> PartSpec:
    """A bottleneck part; settings override AdapterHub's seq_bn."""
    layers = settings.pop("layers", range(LAYERS))
    return PartSpec("bottleneck", {**SEQ_BN, **settings, "sites": sites(names, layers, width=width)})


def lora(names: Sequence[str] = ("attn_q", "attn_v"), rank: int = 3, **settings: Any) -> PartSpec:
    """A LoRA part."""
    return PartSpec("lora", {"sites": sites(names, rank=rank, scaling=1.7, **settings)})


ALL_LINEAR = ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_in", "ffn_out")
PARTS: Mapping[str, PartSpec] = {
    "seq_bn": bottleneck(),
    "double_seq_bn": bottleneck(
        ("attn_junction", "ffn_junction"), original_ln_before=False, residual_before_ln=False, non_linearity="swish"
    ),
    "par_bn": bottleneck(is_parallel=True, original_ln_before=False, scaling=4.0),
    "scaled_par_bn": bottleneck(is_parallel=True, original_ln_before=False, scaling="learned"),
    "channel_bn": bottleneck(width=5, scaling="channel"),
    "gated_bn": bottleneck(use_gating=True),
    "ln_bn": bottleneck(ln_before=True, ln_after=True, non_linearity="gelu"),
    "post_add_bn": bottleneck(residual_before_ln="post_add", adapter_residual_before_ln=True),
    "plus_bn": bottleneck(original_ln_after=False, residual_before_ln=False, scaling="channel"),
    "one_layer_bn": bottleneck(layers=[1], non_linearity="leakyrelu"),
    "parallel_gated_mh": bottleneck(("attn_junction",), is_parallel=True, ln_after=True, use_gating=True),
    "lora_qv": lora(),
    "lora_all": lora(ALL_LINEAR, rank=11, bias=True),
    "ia3": PartSpec("ia3", {"sites": sites(("attn_k", "attn_v", "ffn_in"), scaling=1.3)}),
    "ia3_input": PartSpec("ia3", {"sites": sites(("ffn_out",), at="input")}),
    "prefix_flat": PartSpec("prefix_tuning", {"length": 3, "flat": True, "layers": [0, 1]}),
    "prefix_mlp": PartSpec("prefix_tuning", {"length": 5, "flat": False, "bottleneck": 6, "layers": [1]}),
    "prompt": PartSpec("prompt_tuning", {"length": 3, "at": "prefix"}),
    "prompt_after_bos": PartSpec("prompt_tuning", {"length": 2, "at": "prefix_after_bos"}),
    "invertible": PartSpec("invertible", {"kind": "nice", "non_linearity": "relu", "width": 6}),
}
HEADS: Mapping[str, HeadSpec] = {
    "two_layers": HeadSpec("classification", 2, "tanh", True, "first_token", ("a", "b", "c"), "single_label"),
    "one_layer": HeadSpec("multilabel_classification", 1, None, False, "first_token", ("a", "b"), "multi_label"),
    "pooler": HeadSpec("classification", 1, None, True, "pooler", ("a", "b"), "single_label"),
    "regression": HeadSpec("classification", 3, "gelu", True, "first_token", ("score",), "regression"),
    "tagging": HeadSpec("tagging", 1, None, True, "tokens", ("o", "x"), "token"),
}


def requires(family: str) -> Requires:
    """What a package made for a family's tiny backbone needs."""
    return Requires(family, HIDDEN, LAYERS, 4)


def package(family: str, parts: Sequence[PartSpec], head: HeadSpec | None = None, seed: int = 0) -> Package:
    """A package with random weights of a strength that shows."""
    manifest = Manifest("adapter" if parts else "head", requires(family), tuple(parts), head)
    generator = torch.Generator().manual_seed(seed)
    shapes = expected(manifest, profile(family))
    return Package(manifest, {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()})


def adapter(family: str, parts: Sequence[PartSpec], head: HeadSpec | None = None, seed: int = 0) -> Adapter:
    """The same, folded."""
    return fold(package(family, parts, head, seed), profile(family), torch.float32)


def in_one_arena(adapters: Sequence[Adapter], slack: int = 0) -> list[Resident]:
    """Adapters side by side in one arena, as the device tier holds them; NaN everywhere else."""
    size = sum(item.flat.numel() + slack * ALIGN for item in adapters) + slack * ALIGN
    arena = torch.full((size,), float("nan"))
    residents, start = [], slack
    for item in adapters:
        residents.append(Resident(item, arena, start, 0))
        arena[start * ALIGN : start * ALIGN + item.flat.numel()] = item.flat
        start += item.flat.numel() // ALIGN + slack
    return residents


def ids(seed: int, length: int) -> np.ndarray:
    """Token ids without pads."""
    return np.random.default_rng(seed).integers(5, VOCABULARY, length)


def embedding_package(family: str, rows: int = 50, seed: int = 3, tokenizer: bytes | None = None) -> Package:
    """A vocabulary with random word vectors."""
    spec = EmbeddingSpec(rows, HIDDEN, tokenizer is not None)
    manifest = Manifest("embedding", requires(family), embedding=spec)
    matrix = torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))
    tensors = {"embedding/matrix/weight": matrix}
    if tokenizer is not None:
        tensors["embedding/tokenizer/bytes"] = torch.tensor(list(tokenizer), dtype=torch.uint8)
    return Package(manifest, tensors)


def config_json(family: str) -> dict[str, Any]:
    """The `config.json` of a family's folder."""
    return json.loads((folder(family) / "config.json").read_text())
