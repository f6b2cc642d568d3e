"""What a seed draws for AdapterHub: a family, methods with their settings, a composition, a head, a vocabulary."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import adapters

_INTERFACE = {"adapter_methods": ["bottleneck", "lora", "reft", "invertible"], "layer_cross_attn": None}
_QWEN = {
    **_INTERFACE,
    "model_embeddings": "embed_tokens",
    "model_layers": "layers",
    "layer_self_attn": "self_attn",
    "attn_k_proj": "k_proj",
    "attn_q_proj": "q_proj",
    "attn_v_proj": "v_proj",
    "attn_o_proj": "o_proj",
    "layer_intermediate_proj": "mlp.up_proj",
    "layer_output_proj": "mlp.down_proj",
    "layer_pre_self_attn": "input_layernorm",
    "layer_pre_ffn": "post_attention_layernorm",
}
# Families that the library runs through an interface alone.
INTERFACED: Mapping[str, Mapping[str, Any]] = {
    "modernbert": {
        **_INTERFACE,
        "model_embeddings": "embeddings",
        "model_layers": "layers",
        "layer_self_attn": "attn",
        "attn_qkv_proj": "Wqkv",
        "attn_o_proj": "Wo",
        "layer_intermediate_proj": "mlp.Wi",
        "layer_output_proj": "mlp.Wo",
        "layer_pre_self_attn": "attn",
        "layer_pre_ffn": "mlp",
        "layer_ln_1": "mlp_norm",
    },
    "qwen2": _QWEN,
    "qwen3": _QWEN,
}
ENCODERS = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "albert", "deberta-v2")
DECODERS = ("gpt2", "llama", "mistral")
# Their adapters around the layers hang on the table of words itself, which the library leaves out with another vocabulary.
_HOOKED = ("llama", "mistral")
ACTIVATIONS = ("relu", "gelu", "swish", "tanh", "leakyrelu", "gelu_new", "silu")


def _bottleneck(rng: random.Random) -> Any:
    parallel = rng.random() < 0.25
    settings = {
        "mh_adapter": rng.random() < 0.5,
        "output_adapter": True,
        "reduction_factor": rng.choice((2, 4, 8, 16, {"default": 4, "1": 2})),
        "non_linearity": rng.choice(ACTIVATIONS),
        "original_ln_before": rng.random() < 0.5,
        "original_ln_after": rng.random() < 0.8,
        "ln_before": rng.random() < 0.3,
        "ln_after": rng.random() < 0.3,
        "residual_before_ln": rng.choice((True, False)),
        "adapter_residual_before_ln": rng.random() < 0.2,
        "scaling": rng.choice((1.0, 4.0, 0.5, "learned", "channel")),
        "use_gating": rng.random() < 0.2,
        "is_parallel": parallel,
        "leave_out": rng.choice(([], [], [0], [1])),
    }
    if parallel:
        settings |= {"original_ln_before": False, "adapter_residual_before_ln": False}
    return adapters.BnConfig(**settings)


def _invertible(rng: random.Random) -> Any:
    made = rng.choice((adapters.SeqBnInvConfig, adapters.DoubleSeqBnInvConfig))
    return made(reduction_factor=rng.choice((2, 8)), inv_adapter_reduction_factor=rng.choice((2, 4)))


def _compacter(rng: random.Random) -> Any:
    made = rng.choice((adapters.CompacterConfig, adapters.CompacterPlusPlusConfig))
    return made(
        reduction_factor=rng.choice((2, 4)),
        phm_dim=rng.choice((2, 4)),
        phm_rank=rng.choice((1, 2)),
        shared_phm_rule=rng.random() < 0.6,
        factorized_phm_W=rng.random() < 0.6,
        factorized_phm_rule=rng.random() < 0.4,
        shared_W_phm=rng.random() < 0.3,
    )


def _lora_places(rng: random.Random) -> dict[str, Any]:
    places = {
        "selfattn_lora": rng.random() < 0.8,
        "intermediate_lora": rng.random() < 0.4,
        "output_lora": rng.random() < 0.4,
        "attn_matrices": rng.choice((["q", "v"], ["q", "k", "v"], ["v"], ["k", "v"])),
    }
    return places if places["intermediate_lora"] or places["output_lora"] else {**places, "selfattn_lora": True}


def _lora(rng: random.Random) -> Any:
    sizes = {"r": rng.choice((1, 2, 4, 8)), "alpha": rng.choice((1, 4, 8, 16))}
    more = {"use_gating": rng.random() < 0.2, "leave_out": rng.choice(([], [], [1]))}
    return adapters.LoRAConfig(**_lora_places(rng), **sizes, **more)


def _dora(rng: random.Random) -> Any:
    return adapters.DoRAConfig(**_lora_places(rng), r=rng.choice((2, 4)), alpha=rng.choice((2, 8)))


def _ia3(rng: random.Random) -> Any:
    return adapters.IA3Config(use_gating=rng.random() < 0.3)


def _vera(rng: random.Random) -> Any:
    made = rng.choice((adapters.VeraConfig, adapters.DvoRAConfig))
    return made(r=rng.choice((2, 4)), attn_matrices=rng.choice((["q", "v"], ["q"])))


def _prefix(rng: random.Random) -> Any:
    return adapters.PrefixTuningConfig(
        flat=rng.random() < 0.5,
        prefix_length=rng.randint(1, 8),
        bottleneck_size=rng.choice((8, 16)),
        use_gating=rng.random() < 0.25,
        shared_gating=rng.random() < 0.5,
        leave_out=rng.choice(([], [], [0])),
    )


def _prompt(rng: random.Random) -> Any:
    return adapters.PromptTuningConfig(
        prompt_length=rng.randint(1, 6), combine=rng.choice(("prefix", "prefix_after_bos"))
    )


def _reft(rng: random.Random) -> Any:
    made = rng.choice((adapters.LoReftConfig, adapters.NoReftConfig, adapters.DiReftConfig))
    return made(
        layers=rng.choice(("all", [0], [1])),
        prefix_positions=rng.randint(1, 3),
        suffix_positions=rng.randint(0, 3),
        r=rng.choice((1, 2, 4)),
        tied_weights=rng.random() < 0.4,
    )


def _union(rng: random.Random) -> Any:
    def unipelt() -> Any:
        return adapters.UniPELTConfig(
            prefix_tuning=adapters.PrefixTuningConfig(prefix_length=4, bottleneck_size=8, use_gating=True),
            adapter=adapters.SeqBnConfig(reduction_factor=4, use_gating=True),
            lora=adapters.LoRAConfig(r=4, alpha=2, use_gating=True),
        )

    def mam() -> Any:
        return adapters.MAMConfig(prefix_tuning=adapters.PrefixTuningConfig(bottleneck_size=8, prefix_length=5))

    return rng.choice((unipelt, mam, lambda: adapters.ConfigUnion(_bottleneck(rng), _lora(rng))))()


METHODS: Mapping[str, Callable[[random.Random], Any]] = {
    "bottleneck": _bottleneck,
    "invertible": _invertible,
    "adapterplus": lambda rng: adapters.AdapterPlusConfig(reduction_factor=rng.choice((4, 8)), stochastic_depth=0.0),
    "compacter": _compacter,
    "lora": _lora,
    "dora": _dora,
    "ia3": _ia3,
    "vera": _vera,
    "prefix": _prefix,
    "prompt": _prompt,
    "reft": _reft,
    "union": _union,
}
ANYWHERE = ("bottleneck", "invertible", "lora", "dora", "ia3", "reft", "adapterplus")  # of interfaces
HEADS = ("classification", "multilabel", "tagging", "qa", "multiple_choice", "masked_lm", "dependency_parsing")
_CALLED = {"qa": "question_answering", "multilabel": "multilabel_classification"}


@dataclass
class Draw:
    """What was drawn: names, what the case says of them, and how they are added to a model."""

    family: str
    said: dict[str, Any]
    configs: dict[str, Any]
    head_type: str | None
    head_settings: Mapping[str, Any]
    heads: list[dict[str, Any]] = field(default_factory=list)
    vocabulary: str | None = None
    setup: bool = False
    fusion_settings: Mapping[str, Any] | None = None
    choices: int = 0
    even: bool = False  # rows of one length

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters."""
        return list(self.configs)

    @property
    def fusions(self) -> list[str]:
        """Names of the fusions."""
        return [item["name"] for item in self.said["fusions"]]

    def build(self, model: Any, rng: random.Random) -> None:
        """Add everything to a model."""
        for name, config in self.configs.items():
            model.add_adapter(name, config=config)
        for name in self.fusions:
            children = name.split(",")
            config = "dynamic" if self.fusion_settings is None else {**self.fusion_settings}
            model.add_adapter_fusion(children, config)
        for item in self.heads:
            verb = "classification" if self.head_type == "multilabel" else self.head_type
            getattr(model, f"add_{verb}_head")(item["name"], **self.head_settings)

    def trains(self, key: str) -> bool:
        """Whether the parameter of this name is what was added."""
        added = [f".{name}." for name in (*self.configs, *self.fusions)]
        parts = ("heads.", "loaded_embeddings.", "shared_parameters.", "prefix_tunings.", "invertible_adapters.")
        return any(f".{part}" in f".{key}" for part in parts) or any(name in f".{key}." for name in added)


def draw(rng: random.Random, seed: int) -> Draw:
    """A case from a seed; every method and every kind of head comes once in as many seeds that follow one another."""
    method = list(METHODS)[seed % len(METHODS)]
    family = rng.choice((*ENCODERS, *ENCODERS, *DECODERS, "vit", *INTERFACED))
    if family in INTERFACED and method not in ANYWHERE:
        family = rng.choice(ENCODERS)
    shape = _shape(rng, method)
    count = {"single": 1}.get(shape, 2 if rng.random() < 0.7 else 3)
    count = 3 if shape in ("stack_fuse", "stack_split", "stack_parallel") else count
    names = ["a", "b", "c"][:count]
    configs = _configs(rng, method, shape, names)
    head_type, settings = _head(rng, seed, family, shape)
    own = shape in ("parallel", "stack_parallel", "batch_split")
    heads = [{"name": "h", "path": "heads/h", "type": _CALLED.get(head_type or "", head_type)}] if head_type else []
    if head_type and own:
        heads = [{**heads[0], "name": name, "path": f"adapters/{name}"} for name in _tops(shape, names)]
    elif head_type and shape == "single" and rng.random() < 0.7:
        heads = [{**heads[0], "name": "a", "path": "adapters/a"}]
    fused = {"fuse": names, "stack_fuse": names[1:]}.get(shape, [])
    said = {
        "method": f"{family} {method} {shape} {head_type}",
        "adapters": [{"name": name, "path": f"adapters/{name}"} for name in names],
        "fusions": [{"name": ",".join(fused), "path": f"fusions/{','.join(fused)}"}] if fused else [],
        "heads": heads,
        "head": None if own or not heads else {"name": heads[0]["name"], "type": heads[0]["type"]},
        "composition": _composition(rng, shape, names),
        "skip_layers": [1] if shape in ("single", "stack") and rng.random() < 0.1 else [],
        "embedding": None,
    }
    made = Draw(family, said, configs, head_type, settings, heads)
    made.even = family == "deberta-v2" and method == "prompt"  # its row alone is not its row among others
    made.choices = 2 if head_type == "multiple_choice" else 0
    made.setup = (
        shape not in ("batch_split", "parallel", "stack_parallel") and not said["skip_layers"] and rng.random() < 0.25
    )
    made.setup = made.setup and family not in INTERFACED
    if fused and rng.random() < 0.5:
        flags = ("value", "query_before_ln", "residual_before")
        base = {
            "key": True,
            "query": True,
            "value_before_softmax": True,
            "regularization": False,
            "value_initialized": False,
        }
        made.fusion_settings = {
            **base,
            **{flag: rng.random() < 0.5 for flag in flags},
            "temperature": False,
            "dropout_prob": None,
        }
    loses = family in _HOOKED and any(_around(config) for config in configs.values())
    if family not in ("vit", *INTERFACED) and head_type != "masked_lm" and rng.random() < 0.1 and not loses:
        made.vocabulary = "words"
        said["embedding"] = {"name": "words", "path": "embeddings/words", "has_tokenizer": False}
    return made


def _around(config: Any) -> bool:
    """Whether something of it acts in front of the layers."""
    parts = getattr(config, "configs", [config])
    return any(
        getattr(one, "inv_adapter", None) or getattr(one, "architecture", None) == "prompt_tuning" for one in parts
    )


def _shape(rng: random.Random, method: str) -> str:
    if method in ("bottleneck", "adapterplus"):
        several = [
            "stack",
            "fuse",
            "stack_fuse",
            "average",
            "split",
            "stack_split",
            "parallel",
            "stack_parallel",
            "batch_split",
        ]
    elif method == "lora":
        several = ["stack", "average", "parallel", "batch_split"]
    elif method == "prefix":
        several = ["stack", "parallel", "batch_split"]
    else:
        several = ["stack"]
    return "single" if rng.random() < 0.45 else rng.choice(several)


def _configs(rng: random.Random, method: str, shape: str, names: list[str]) -> dict[str, Any]:
    if shape in ("average", "parallel", "batch_split", "split", "fuse"):
        state = rng.getstate()
        found = {}
        for name in names:  # of one kind, which an average needs; the others may differ
            # Beside longer prefixes the library fills shorter ones up with keys that it then attends to, so that
            # what a row gets depends on its neighbours.
            if shape in ("average", "fuse", "split") or method == "prefix":
                rng.setstate(state)
            found[name] = METHODS[method](rng)
        return found
    state = rng.getstate()
    made = {}
    for name in names:
        if shape in ("stack_fuse", "stack_split"):
            rng.setstate(state)
        made[name] = METHODS[method](rng)
    if shape.startswith("stack") and rng.random() < 0.4:
        made["a"] = _invertible(rng)  # a language adapter below the others
    return made


def _composition(rng: random.Random, shape: str, names: list[str]) -> Any:
    match shape:
        case "single":
            return {"stack": names}
        case "stack_fuse":
            return {"stack": [names[0], {"fuse": names[1:]}]}
        case "stack_parallel":
            return {"stack": [names[0], {"parallel": names[1:]}]}
        case "stack_split":
            return {"stack": [names[0], {"split": names[1:], "splits": [4, 60]}]}
        case "split":
            return {"split": names, "splits": [3, *([2] * (len(names) - 2)), 60]}
        case "batch_split":
            return {"batch_split": names, "batch_sizes": [1, 2] if len(names) == 2 else [1, 1, 1]}
        case "average":
            return {"average": names, "weights": [1 / len(names)] * len(names)}
    return {shape: names}


def _tops(shape: str, names: list[str]) -> list[str]:
    return names[1:] if shape == "stack_parallel" else names


def _head(rng: random.Random, seed: int, family: str, shape: str) -> tuple[str | None, dict[str, Any]]:
    if family in INTERFACED:
        return None, {}
    kinds = HEADS
    if family == "vit":
        kinds = ("image_classification",)
    elif family in DECODERS:
        kinds = (
            ("classification", "tagging", "causal_lm")
            if family == "gpt2"
            else ("classification", "tagging", "qa", "causal_lm")
        )
    kind = kinds[seed % len(kinds)]
    if shape in ("parallel", "stack_parallel", "batch_split") and kind not in ("image_classification", "tagging"):
        kind = "classification"
    if rng.random() < 0.08:
        return None, {}
    layers, activation = rng.randint(1, 3), rng.choice(("tanh", "relu", "gelu"))
    settings: dict[str, Any] = {"layers": layers, "activation_function": activation}
    if kind in ("classification", "multilabel", "tagging", "image_classification", "dependency_parsing"):
        settings["num_labels"] = rng.randint(2, 5)
    if kind == "multilabel":
        settings["multilabel"] = True
    pooled = kind in ("classification", "multilabel", "multiple_choice") and shape != "batch_split"
    if pooled and family in (
        "bert",
        "roberta",
        "albert",
        "xlm-roberta",
    ):
        settings["use_pooler"] = rng.random() < 0.3
    if kind == "dependency_parsing":
        settings = {"num_labels": settings["num_labels"]}
    if kind in ("masked_lm", "causal_lm"):
        settings = {"activation_function": activation}
    return kind, settings
