"""The forms in which PEFT's LoRA comes: what its configuration may name beside a list of maps."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from peft_hosts import DECODERS, FAMILIES, SECOND, targets

Form = Callable[[random.Random, str], dict[str, Any]]
# Tables beside that of words whose modules are asked by number: the others' change nothing, or are not read by position.
LOOKED_UP: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert", "roberta", "electra", "albert"), ("position_embeddings", "token_type_embeddings")),
    "distilbert": ("position_embeddings",),
    "gpt2": ("wpe",),
    "t5": ("relative_attention_bias",),
    "mt5": ("relative_attention_bias",),
}
_NUMBERED = r".*\.(0|1)\..*"  # paths in the first two layers
# PEFT finds the layers of no other model; those of Qwen look their kind up in a list that has none for the copies.
_REPLICABLE = ("bert", "llama", "mistral")


def _sizes(rng: random.Random) -> dict[str, Any]:
    return {"r": rng.choice((1, 2, 3, 4)), "lora_alpha": rng.choice((1, 4, 6, 8)), "use_rslora": rng.random() < 0.3}


def _listed(rng: random.Random, family: str) -> dict[str, Any]:
    return {**_sizes(rng), "target_modules": targets(rng, family)}


def _regex(rng: random.Random, family: str) -> dict[str, Any]:
    ends = "|".join(end.replace(".", r"\.") for end in targets(rng, family))
    return {**_sizes(rng), "target_modules": rf"{_NUMBERED}({ends})", "use_dora": rng.random() < 0.3}


def _all_linear(rng: random.Random, family: str) -> dict[str, Any]:
    held = FAMILIES[family]
    excluded = rng.choice((None, [held.attention[0]], rf".*{held.feed[-1]}"))
    return {**_sizes(rng), "target_modules": "all-linear", "exclude_modules": excluded}


def _patterns(rng: random.Random, family: str) -> dict[str, Any]:
    own = _listed(rng, family)
    names = [*own["target_modules"], rf"{_NUMBERED}{own['target_modules'][0]}", r".*\.1\..*"]
    return {
        **own,
        "rank_pattern": {name: rng.randint(1, 6) for name in rng.sample(names, rng.randint(0, 2))},
        "alpha_pattern": {name: rng.randint(1, 9) for name in rng.sample(names, rng.randint(1, 2))},
        "use_dora": rng.random() < 0.3,
    }


def _some_layers(rng: random.Random, family: str) -> dict[str, Any]:
    pattern = {"gpt2": "h", "llama": "layers", "bert": "layer"}.get(family)
    return {
        **_listed(rng, family),
        "layers_to_transform": rng.choice((0, [1], [0, 1])),
        "layers_pattern": rng.choice((None, pattern)),
        "lora_bias": rng.random() < 0.3,
    }


def _biased(rng: random.Random, family: str) -> dict[str, Any]:
    return {**_listed(rng, family), "bias": rng.choice(("all", "lora_only")), "use_dora": rng.random() < 0.2}


def _saved_norms(rng: random.Random, family: str) -> dict[str, Any]:
    saved = [rng.choice(FAMILIES[family].norms), *(["classifier"] if family == "vit" else [])]
    return {**_listed(rng, family), "modules_to_save": saved}


def _saved_tables(rng: random.Random, family: str) -> dict[str, Any]:
    tables = FAMILIES[family].tables
    return {**_listed(rng, family), "modules_to_save": sorted(rng.sample(tables, rng.randint(1, len(tables))))}


def _words(rng: random.Random, family: str) -> dict[str, Any]:
    own, words = _listed(rng, family), FAMILIES[family].words
    if family in SECOND:  # nothing reads the module that holds the words of both stacks
        words = rng.choice((words, "embed_tokens"))
    return {**own, "target_modules": [*own["target_modules"], words], "use_dora": rng.random() < 0.3}


def _tables(rng: random.Random, family: str) -> dict[str, Any]:
    own, tables = _listed(rng, family), LOOKED_UP[family]
    more = rng.sample(tables, rng.randint(1, len(tables)))
    return {**own, "target_modules": [*own["target_modules"], *more], "use_dora": rng.random() < 0.3}


def _tokens(rng: random.Random, family: str) -> dict[str, Any]:
    chosen = sorted(rng.sample(range(5, 120), 3))
    return {**_listed(rng, family), "trainable_token_indices": rng.choice((chosen, {FAMILIES[family].words: chosen}))}


def _parameters(rng: random.Random, family: str) -> dict[str, Any]:
    ends = [f"{end}.weight" for end in targets(rng, family)]
    return {**_sizes(rng), "target_modules": [], "target_parameters": ends}


def _replicated(rng: random.Random, family: str) -> dict[str, Any]:
    return {
        **_listed(rng, family),
        "layer_replication": rng.choice(([[0, 2], [0, 2]], [[0, 1], [0, 2]], [[1, 2], [0, 2]])),
    }


def _variant(rng: random.Random, family: str) -> dict[str, Any]:
    """Training of other kinds, of which LoRA is left, and LoRA from the least singular vectors."""
    kinds: tuple[dict[str, Any], ...] = (
        {"velora_config": {"num_groups": rng.choice((4, 8)), "init_type": "random"}},
        {"monteclora_config": {"num_samples": 2}},
        {"init_lora_weights": "mica"},
        {"kasa_config": {"beta": 1e-4}},
    )
    return {**_listed(rng, family), **rng.choice(kinds)}


def _blocks(rng: random.Random, family: str) -> dict[str, Any]:
    own = _listed(rng, family)
    first, *others = sorted({name.rpartition(".")[2] for name in own["target_modules"]})
    blocks = {"target_modules_bd_a": [first], "target_modules_bd_b": others, "nblocks": 2, "match_strict": False}
    return {**own, "r": rng.choice((2, 4)), "use_bdlora": blocks}


def _activated(rng: random.Random, family: str) -> dict[str, Any]:
    """Acts from a token on that most rows hold somewhere, or from two of them, which few do."""
    tokens = [rng.randrange(5, 60) for _ in range(rng.choice((1, 1, 2)))]
    return {**_listed(rng, family), "alora_invocation_tokens": tokens}


_LINEAR = tuple(family for family in FAMILIES if family != "gpt2")
_TEXTS = tuple(family for family in FAMILIES if family != "vit")
# Form -> (settings, families that PEFT runs it on).
FORMS: Mapping[str, tuple[Form, tuple[str, ...]]] = {
    "lora regex": (_regex, tuple(FAMILIES)),
    "lora all-linear": (_all_linear, tuple(FAMILIES)),
    "lora patterns": (_patterns, tuple(FAMILIES)),
    "lora layers": (_some_layers, tuple(FAMILIES)),
    "lora biases": (_biased, tuple(FAMILIES)),
    "lora saved norms": (_saved_norms, tuple(FAMILIES)),
    "lora saved tables": (_saved_tables, tuple(family for family, held in FAMILIES.items() if held.tables)),
    "lora words": (_words, _TEXTS),
    "lora tables": (_tables, tuple(LOOKED_UP)),
    "lora tokens": (_tokens, _TEXTS),
    "lora parameters": (_parameters, tuple(family for family in FAMILIES if family != "gpt2")),
    "lora activated": (_activated, DECODERS),
    "lora variant": (_variant, _LINEAR),
    "lora blocks": (_blocks, _LINEAR),
    "lora replicated": (_replicated, _REPLICABLE),
}
