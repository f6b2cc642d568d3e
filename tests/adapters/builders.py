"""Tiny seeded backbones of every family, and random packages of every method: what the library's tests stand on."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from transformers import (
    AlbertConfig,
    AutoModel,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    MBartConfig,
    MistralConfig,
    ModernBertConfig,
    MT5Config,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
    ViTConfig,
    XLMRobertaConfig,
)

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.architectures.sites import Address
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.batch.targets import target_ids
from adapters.errors import Misfit
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec
from adapters.methods.fold import expected, fold
from adapters.methods.presets import SEQ_BN
from adapters.requires import Requires
from adapters.weights import ALIGN, Adapter, Package, Resident

ENCODERS = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert", "deberta-v2", "modernbert")
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
SEQ2SEQ = ("t5", "mt5", "bart", "mbart")
FAMILIES = (*ENCODERS, *DECODERS)  # of one stack
LAYERS, HIDDEN, VOCABULARY = 2, 32, 90
NARROW = 20  # width of the embeddings of families that have their own
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
RELATIVE = {
    "relative_attention": True,
    "position_biased_input": False,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}
WINDOWED = {
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    **{f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "cls", "sep"))},
}
# Two heads of queries share each head of keys and values; token 3 is the padding.
GROUPED = {"num_key_value_heads": 2, "pad_token_id": 3}
# One layer in the encoder, one in the decoder. Distances of 7 and more share buckets.
T5_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "d_ff": 48,
    "d_kv": 12,
    "num_heads": 4,
    "num_layers": 1,
    "num_decoder_layers": 1,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "initializer_factor": 1.0,
}
BART_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
    "init_std": 0.3,
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
    "xlm-roberta": lambda: XLMRobertaConfig(**_SIZES, type_vocab_size=1, pad_token_id=1),
    "electra": lambda: ElectraConfig(**_SIZES, embedding_size=NARROW),
    # Two layer modules, each run twice in a pass.
    "albert": lambda: AlbertConfig(
        **{**_SIZES, "num_hidden_layers": 2 * LAYERS}, embedding_size=NARROW, num_hidden_groups=LAYERS
    ),
    "deberta-v2": lambda: DebertaV2Config(**_SIZES, **RELATIVE),
    # A token sees four others to each side in the second layer.
    "modernbert": lambda: ModernBertConfig(**_SIZES, **WINDOWED),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=HIDDEN,
        n_layer=LAYERS,
        n_head=4,
        n_inner=48,
        n_positions=40,
        initializer_range=0.3,
        pad_token_id=3,
    ),
    "llama": lambda: LlamaConfig(**_SIZES, **GROUPED),
    # A token sees six others in front of it.
    "mistral": lambda: MistralConfig(**_SIZES, **GROUPED, sliding_window=7),
    "qwen2": lambda: Qwen2Config(**_SIZES, **GROUPED),
    # Heads that are wider together than the states.
    "qwen3": lambda: Qwen3Config(**_SIZES, **GROUPED, head_dim=12),
    "t5": lambda: T5Config(**T5_SIZES, decoder_start_token_id=0),
    "mt5": lambda: MT5Config(**T5_SIZES, decoder_start_token_id=0),
    "bart": lambda: BartConfig(**BART_SIZES),
    "mbart": lambda: MBartConfig(**BART_SIZES, scale_embedding=True),
    # Two rows of three patches, behind one token more.
    "vit": lambda: ViTConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.3,
        image_size=[8, 12],
        patch_size=4,
        num_channels=2,
    ),
}


@cache
def folder(family: str) -> Path:
    """A model folder of a family with seeded weights, made once per process."""
    return variant(family)


def variant(family: str, **settings: Any) -> Path:
    """A model folder of a family whose configuration differs from that of `folder`."""
    path = Path(mkdtemp(prefix=f"chorus-{family}-")) / f"{family}-tiny"
    config = _CONFIGS[family]()
    torch.manual_seed(7)
    model = AutoModel.from_config(type(config)(**{**config.to_dict(), **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # fresh norms and biases are all alike, and would hide one taken for another
                parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(path)
    return path


def changed(path: Path, parameters: Mapping[str, torch.Tensor]) -> Backbone:
    """The backbone of a folder, loaded with some parameters in the place of its own."""
    model = AutoModel.from_pretrained(path)
    for name, tensor in parameters.items():
        model.get_parameter(name).data = tensor.clone()
    other = Path(mkdtemp(prefix="chorus-changed-")) / path.name
    model.save_pretrained(other)
    return Backbone.load(other)


@cache
def backbone(family: str, *, compiled: bool = True) -> Backbone:
    """The loaded backbone of a family; with torch's operations alone if it is not `compiled`."""
    return Backbone.load(folder(family), compiled=compiled)


def profile(family: str) -> BackboneProfile:
    """The profile of a family's folder."""
    return read_profile(folder(family))


def plain_hidden(model: str | Path, row: Row) -> torch.Tensor:
    """Last hidden states of a row under transformers' own model of a family or a folder, [tokens, hidden]."""
    where = folder(model) if isinstance(model, str) else model
    plain = AutoModel.from_pretrained(where, attn_implementation="eager").eval()
    inputs = {"input_ids": torch.from_numpy(np.asarray(row.input_ids, np.int64))[None]}
    geometry = read_profile(where).geometry
    if geometry.encoder_layers:
        inputs["decoder_input_ids"] = torch.from_numpy(target_ids(row, geometry))[None]
    if row.type_ids is not None:
        inputs["token_type_ids"] = torch.from_numpy(np.asarray(row.type_ids, np.int64))[None]
    with torch.no_grad():
        return plain(**inputs).last_hidden_state[0]


def apart_from_plain(path: Path, lengths: Sequence[int] = (1, 7, 3, 7, 33, 20)) -> float:
    """The largest difference between rows of a mixed batch and transformers' own model, a row at a time."""
    rows = [Row((), None, None, ids(n, n)) for n in lengths]
    mixed = Backbone.load(path).run(rows, ["hidden_state"] * len(rows))
    return max(float((out - plain_hidden(path, row)).abs().max()) for out, row in zip(mixed, rows, strict=True))


def home(part: PartSpec) -> str:
    """The family that a part is tried on, where one is enough."""
    return "gpt2" if part.method == "adaption_prompt" else "bert"


def takes(family: str, part: PartSpec) -> bool:
    """Whether a family has room for a part: some methods, and some bottlenecks, are not for every family."""
    record = profile(family).geometry.architecture
    try:
        expected(Manifest("adapter", requires(family), (part,)), profile(family))
    except Misfit:
        return False
    addresses = [Address.parse(site) for site in part.config.get("sites", ()) if "junction" in site]
    junctions = [record.stack(address.layer).junctions[address.site] for address in addresses]
    return all(junction.adds or junction.removable for junction in junctions) or bool(part.config["original_ln_after"])


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


def compacter(names: Sequence[str] = ("ffn_junction",), width: int = 8, **settings: Any) -> PartSpec:
    """A Compacter part; settings override AdapterHub's compacter++."""
    plain = {"phm_dim": 4, "phm_rank": 1, "phm_bias": True, "factorized_W": True, "factorized_rule": False}
    shared = {"shared_W": False, "shared_rule": True, "non_linearity": "gelu"}
    return PartSpec("compacter", {**SEQ_BN, **plain, **shared, **settings, "sites": sites(names, width=width)})


def reft(**settings: Any) -> PartSpec:
    """A ReFT part; settings override AdapterHub's LoReFT."""
    plain = {"layers": list(range(LAYERS)), "rank": 3, "prefix_positions": 2, "suffix_positions": 3}
    kind = {"tied": False, "orthogonal": True, "subtract_projection": True, "non_linearity": None}
    return PartSpec("reft", {**plain, **kind, **settings})


WORDS = "model/words"
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
    "prefix_gated": PartSpec("prefix_tuning", {"length": 3, "flat": True, "layers": [0, 1], "gating": "shared"}),
    "prefix_gates": PartSpec(
        "prefix_tuning",
        {"length": 4, "flat": False, "bottleneck": 6, "layers": [1], "gating": "separate", "non_linearity": "relu"},
    ),
    "compacter": compacter(("attn_junction", "ffn_junction"), original_ln_before=False),
    "compacter_shared": compacter(width=4, phm_dim=2, phm_rank=2, shared_W=True, factorized_rule=True),
    "compacter_own": compacter(shared_rule=False, factorized_W=False, phm_bias=False),
    "loreft": reft(),
    "noreft": reft(orthogonal=False, non_linearity="relu", layers=[1]),
    "direft": reft(orthogonal=False, subtract_projection=False, suffix_positions=1),
    "reft_tied": reft(tied=True, rank=2),
    "lora_gated": lora(gated=True),
    "dora": lora(dora="adapterhub"),
    "dora_peft": lora(("attn_k", "ffn_out"), dora="peft"),
    "vera": PartSpec("vera", {"rank": 4, "scaling": 1.7, "sites": sites(("attn_q", "attn_out"))}),
    "dvora": PartSpec("vera", {"rank": 5, "scaling": 0.8, "sites": sites(("attn_v",), dora="adapterhub")}),
    "mtl_lora": PartSpec(
        "mtl_lora", {"projections": 2, "sharpness": 0.5, "sites": sites(("attn_q", "ffn_in"), rank=3, scaling=1.7)}
    ),
    "delta": PartSpec("delta", {"sites": sites(("attn_q", "ffn_out"))}),
    "adalora": PartSpec("adalora", {"sites": sites(("attn_q", "attn_v"), rank=3, init_rank=6, alpha=9)}),
    "boft": PartSpec("boft", {"sites": sites(("attn_q",), block=4, factors=1)}),
    "c3a": PartSpec("c3a", {"sites": sites(("attn_out", "ffn_in"), block=8)}),
    "delora": PartSpec("delora", {"sites": sites(("attn_k", "ffn_in"), rank=3)}),
    "fourierft": PartSpec("fourierft", {"sites": sites(("attn_v",), count=40, scaling=900.0, seed=3)}),
    "gralora": PartSpec("gralora", {"sites": sites(("attn_q",), blocks=2, rank=4, general_rank=1, alpha=9)}),
    "hira": PartSpec("hira", {"sites": sites(("attn_q", "ffn_out"), rank=3)}),
    "hra": PartSpec("hra", {"sites": sites(("attn_v", "ffn_in"), rank=3, orthogonal=False)}),
    "loha": PartSpec("loha", {"sites": sites(("attn_q", "ffn_in"), rank=2, alpha=9)}),
    "lokr": PartSpec("lokr", {"sites": sites(("attn_q", "ffn_in"), rank=1, alpha=9, both=False, factor=-1)}),
    "miss": PartSpec("miss", {"sites": sites(("attn_q", "ffn_in"), rank=4, kind="plain", mini_rank=0)}),
    "oft": PartSpec("oft", {"sites": sites(("attn_q",), block=4, shared=False, terms=5, eps=0.0)}),
    "randlora": PartSpec(
        "randlora",
        {"sites": sites(("attn_q", "ffn_in"), rank=4, alpha=90, stored=True, seed=0, random="dense")},
    ),
    "road": PartSpec("road", {"sites": sites(("attn_q", "ffn_in"), variant="road_1", group=8)}),
    "adamss": PartSpec(
        "adamss",
        {
            "sites": sites(("ffn_out",), directions=6, columns=49, groups=[[HIDDEN, 3]], seed=0)
        },  # one group, as every backbone has
    ),
    "beft": PartSpec("beft", {"sites": sites(("attn_v",))}),
    "deft": PartSpec("deft", {"sites": sites(("attn_q",), rank=3, scaling=0.5, projection="relu", removes_only=False)}),
    "frod": PartSpec("frod", {"sites": sites(("attn_q",), category="attn_q", count=0)}),
    "osf": PartSpec("osf", {"sites": sites(("attn_q", "ffn_in"), rank=3)}),
    "peanut": PartSpec("peanut", {"sites": sites(("attn_q",), rank=3, activation="tanh", scaling=0.5)}),
    "poly": PartSpec("poly", {"sites": sites(("attn_q", "ffn_in"), rank=4, splits=2, skills=3)}),
    "poly_tasks": PartSpec("poly", {"sites": sites(("attn_v",), rank=2, splits=1, skills=2, tasks=3, task=2)}),
    "psoft": PartSpec(
        "psoft",
        {"sites": sites(("attn_v",), rank=4, iterations=2, seed=3, eps=0.0, terms=0, orthogonal=True)},
    ),
    "pvera": PartSpec("pvera", {"sites": sites(("attn_q",), rank=3, stored=True, seed=5)}),
    "supertuning": PartSpec(
        "supertuning", {"sites": sites(("attn_q",), count=5, stored=False, largest=True, rank=0, alpha=0.0)}
    ),
    "tinylora": PartSpec("tinylora", {"sites": sites(("attn_q",), rank=2, turns=3, group=0, stored=True, seed=9)}),
    "glora": PartSpec(
        "glora", {"sites": sites(("attn_q",), rank=3, weights="lora", coupling="vector", biases="constant")}
    ),
    "lily": PartSpec("lily", {"sites": sites(("attn_q", "ffn_in"), rank=3, experts=2, scaling=1.5)}),
    "unilora": PartSpec(
        "unilora",
        {"sites": {f"{i}/attn_q": {"rank": 3, "length": 50, "seed": 3, "place": i} for i in range(LAYERS)}},
    ),
    "shira": PartSpec("shira", {"sites": sites(("attn_v",), rank=2)}),
    "vblora": PartSpec(
        "vblora",
        {"sites": sites(("attn_q", "ffn_in"), rank=3, vectors=6, length=4, best=2, best_only=False)},
    ),
    "vera_vectors": PartSpec("vera_vectors", {"sites": sites(("attn_q", "ffn_in"), rank=5, stored=True, seed=0)}),
    "waveft": PartSpec(
        "waveft",
        {"sites": sites(("attn_q",), count=40, scaling=9.0, seed=3, synthesis=True, wavelet="db2")},
    ),
    "ia3_gated": PartSpec("ia3", {"sites": sites(("attn_k", "ffn_in"), scaling=1.3, gated=True)}),
    "norms": PartSpec(
        "norms",
        {
            "sites": {
                **sites(("ffn_norm",), weight=True, bias=True),
                "1/attn_norm": {"bias": True},
                "model/embed_norm": {"weight": True},
            }
        },
    ),
    "biases": PartSpec("biases", {"sites": sites(ALL_LINEAR)}),
    "maps": PartSpec("maps", {"sites": {**sites(ALL_LINEAR[:3], [0], bias=True), **sites(("attn_q",), [1])}}),
    "maps_behind": PartSpec("maps", {"sites": sites(("attn_out", "ffn_out"), [1], bias=True)}),
    "lora_base_bias": lora(base_bias=True, bias=True),
    "dora_base_bias": lora(("attn_v",), base_bias=True, dora="peft"),
    "lora_words": PartSpec("lora", {"sites": {WORDS: {"rank": 3, "scaling": 1.7}}}),
    "dora_words": PartSpec(
        "lora", {"sites": {WORDS: {"rank": 9, "scaling": 0.7, "dora": "peft"}, **sites(("attn_q",), rank=2, scaling=1)}}
    ),
    "word_rows": PartSpec("word_rows", {"tokens": [70, *range(5, 60, 2)]}),
    "word_table": PartSpec("word_rows", {"tokens": None}),
    "tables": PartSpec("tables", {"sites": {"model/positions": {}, "model/segments": {}}}),
    "word_prompt": PartSpec("word_prompt", {"length": 3, "segments": True}),
    "multitask_prompt": PartSpec(
        "multitask_prompt", {"length": 2, "segments": True, "ranks": 2, "tasks": 3, "task": 1}
    ),
    "adaption_prompt": PartSpec("adaption_prompt", {"length": 3, "layers": [0, 1]}),
    "past_prefix": PartSpec("past_prefix", {"length": 4, "segments": False}),
}
# Of an encoder-decoder, whose second layer is its decoder's.
CROSS_PARTS: Mapping[str, PartSpec] = {
    "lora_cross": PartSpec(
        "lora", {"sites": sites(("cross_q", "cross_k", "cross_v", "cross_out", "ffn_in"), [1], rank=3, scaling=1.7)}
    ),
    "lora_words_of_stacks": PartSpec(
        "lora", {"sites": {WORDS: {"rank": 3, "scaling": 1.7}, "model/decoder_words": {"rank": 2, "scaling": 0.6}}}
    ),
    "dora_decoder_words": PartSpec(
        "lora", {"sites": {"model/decoder_words": {"rank": 9, "scaling": 0.7, "dora": "peft"}}}
    ),
    "ia3_cross": PartSpec("ia3", {"sites": sites(("cross_k", "cross_v"), [1], scaling=1.3)}),
    "lora_gated_cross": PartSpec(
        "lora", {"sites": sites(("cross_v",), [1], rank=3, scaling=1.7, gated=True, dora="adapterhub")}
    ),
    "cross_bn": bottleneck(("cross_junction",), layers=[1], original_ln_before=False),
    "prefix_encoder": PartSpec("prefix_tuning", {"length": 3, "flat": True, "layers": [0]}),
    "prefix_decoder": PartSpec(
        "prefix_tuning", {"length": 4, "flat": False, "bottleneck": 6, "layers": [1], "gating": "shared"}
    ),
    "prefix_cross": PartSpec(
        "prefix_tuning", {"length": 2, "flat": True, "layers": [1], "site": "cross_kv", "gating": "separate"}
    ),
    "cross_norms": PartSpec("norms", {"sites": {"1/cross_norm": {"weight": True}}}),
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
    return Requires.of(profile(family).geometry)


def package(family: str, parts: Sequence[PartSpec], head: HeadSpec | None = None, seed: int = 0) -> Package:
    """A package with random weights of a strength that shows."""
    return drawn(Manifest("adapter" if parts else "head", requires(family), tuple(parts), head), seed)


def drawn(manifest: Manifest, seed: int = 0) -> Package:
    """The package of a manifest, with random weights of a strength that shows."""
    family = manifest.requires.model_type
    generator = torch.Generator().manual_seed(seed)
    shapes = expected(manifest, profile(family))
    tensors = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        if name.endswith(".original"):  # an orthogonal map, as torch stores it
            tensor.diagonal().copy_(tensor.diagonal().sign())
        elif name.endswith("/w_norm"):  # lengths of columns
            tensor.abs_().add_(5)
        elif name.endswith("/indices"):  # places in a matrix
            tensor.zero_()
        elif name.endswith(".base"):
            tensor.copy_(torch.linalg.qr(tensor).Q)
    return Package(manifest, tensors)


def adapter(family: str, parts: Sequence[PartSpec], head: HeadSpec | None = None, seed: int = 0) -> Adapter:
    """The same, folded."""
    return fold(package(family, parts, head, seed), profile(family), torch.float32)


def folded(manifest: Manifest, seed: int = 0) -> Adapter:
    """A manifest's package with random weights, folded."""
    return fold(drawn(manifest, seed), profile(manifest.requires.model_type), torch.float32)


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
    width = profile(family).geometry.embedding_size
    spec = EmbeddingSpec(rows, width, tokenizer is not None)
    manifest = Manifest("embedding", requires(family), embedding=spec)
    matrix = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    tensors = {"embedding/matrix/weight": matrix}
    if tokenizer is not None:
        tensors["embedding/tokenizer/bytes"] = torch.tensor(list(tokenizer), dtype=torch.uint8)
    return Package(manifest, tensors)


def config_json(family: str) -> dict[str, Any]:
    """The `config.json` of a family's folder."""
    return json.loads((folder(family) / "config.json").read_text())
