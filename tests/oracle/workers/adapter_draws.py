"""What a seed draws for AdapterHub: a family, methods with their settings, a composition, a head, a vocabulary."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from method_draws import ANYWHERE, AROUND, METHODS, invertible

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
SECOND = ("t5", "mt5", "bart", "mbart")  # encoder-decoders
SPEAKING = ("causal_lm", "seq2seq_lm")  # heads that go on
# Their adapters around the layers hang on the table of words itself, which the library leaves out with another vocabulary.
_HOOKED = ("llama", "mistral")
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
    whole: bool = False  # a decoder's rows are the encoder's, moved by one place

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters."""
        return list(self.configs)

    @property
    def speaks(self) -> bool:
        """Whether its head goes on, with everything that the library keeps while it does."""
        return self.head_type in SPEAKING and self.said["head"] is not None

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
    family = rng.choice((*ENCODERS, *ENCODERS, *DECODERS, *SECOND, "vit", *INTERFACED))
    while family in SECOND and method == "prompt":  # which the library has not for them
        family = rng.choice(ENCODERS)
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
    # The library counts places in a decoder's row by the encoder's mask, and looks for an end in as many places.
    bound = method == "reft" or "split" in shape or head_type in ("classification", "multilabel")
    made.whole = family in SECOND and (bound or rng.random() < 0.3)
    # A row of DeBERTa alone is not its row among others then, nor is one that goes on behind its padding.
    alone = (family == "deberta-v2" and method == "prompt") or head_type in SPEAKING
    made.even = alone or made.whole
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
        return _placed(found) if method == "bottleneck" else found
    state = rng.getstate()
    made = {}
    for name in names:
        if shape in ("stack_fuse", "stack_split"):
            rng.setstate(state)
        made[name] = METHODS[method](rng)
    if shape == "stack_parallel" and method == "bottleneck":
        made |= _placed({name: made[name] for name in names[1:]})
    if shape.startswith("stack") and rng.random() < 0.4:
        made["a"] = invertible(rng)  # a language adapter below the others
    return made


def _placed(beside: Mapping[str, Any]) -> dict[str, Any]:
    """Bottlenecks of several rows, around the layer as the last of them: the library adds up for all as that one does."""
    last = list(beside.values())[-1]
    same = {setting: last[setting] for setting in AROUND}
    return {name: config.replace(**same) for name, config in beside.items()}


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
    elif family in SECOND:
        kinds = ("classification", "multilabel", "qa", "seq2seq_lm")
    elif family in DECODERS:
        kinds = (
            ("classification", "tagging", "causal_lm")
            if family == "gpt2"
            else ("classification", "tagging", "qa", "causal_lm")
        )
    kind = kinds[seed % len(kinds)] if kinds is HEADS else rng.choice(kinds)
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
    if kind == "seq2seq_lm":
        settings = {}
    if kind in ("masked_lm", "causal_lm"):
        settings = {"activation_function": activation}
    return kind, settings
