"""What a seed draws for PEFT: a family, a tuner with its settings, the modules it adapts, and a task."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import peft

TASKS: Mapping[str, str] = {  # -> transformers' class
    "FEATURE_EXTRACTION": "AutoModel",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
_LLAMA = (("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj"))
_BERT = (("query", "key", "value"), ("intermediate.dense", "output.dense"))
# Family -> (modules of attention, modules of the feed-forward part).
MODULES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": (("q_lin", "k_lin", "v_lin"), ("lin1", "lin2")),
    "albert": (("query", "key", "value"), ("ffn", "ffn_output")),
    "deberta-v2": (("query_proj", "key_proj", "value_proj"), ("intermediate.dense",)),
    "modernbert": (("Wqkv",), ("mlp.Wo",)),
    "gpt2": (("c_attn",), ("mlp.c_fc", "mlp.c_proj")),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "vit": (("query", "key", "value"), ("intermediate.dense",)),
}
Settings = Callable[[random.Random], dict[str, Any]]


def _lora(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {
        "r": rng.choice((1, 2, 4, 8)),
        "lora_alpha": rng.choice((1, 4, 8, 16)),
        "use_rslora": rng.random() < 0.3,
        "use_dora": rng.random() < 0.25,
        "lora_dropout": rng.choice((0.0, 0.1)),
        "layers_to_transform": rng.choice((None, None, [0], [1])),
    }
    if rng.random() < 0.2:
        made |= {"lora_bias": True, "use_dora": False}
    if rng.random() < 0.3:
        made |= {"init_lora_weights": rng.choice(("pissa", "olora", "gaussian", False))}
    return made


def _rank(**more: Any) -> Settings:
    return lambda rng: {"r": rng.choice((2, 4)), **{key: rng.choice(values) for key, values in more.items()}}


def _some(**more: Any) -> Settings:
    return lambda rng: {key: rng.choice(values) for key, values in more.items()}


# Tuner -> (configuration, settings).
TUNERS: Mapping[str, tuple[str, Settings]] = {
    "lora": ("LoraConfig", _lora),
    "lora_bias": ("LoraConfig", _rank(lora_alpha=(2, 8), bias=("all", "lora_only"))),
    "lora_patterns": (
        "LoraConfig",
        _rank(rank_pattern=({"layer.0": 3}, {"value": 1}), alpha_pattern=({}, {"layers.1": 5}, {"query": 7})),
    ),
    "ia3": ("IA3Config", _some(init_ia3_weights=(True,))),
    "prompt": ("PromptTuningConfig", _some(num_virtual_tokens=(1, 3, 6))),
    "p_tuning": (
        "PromptEncoderConfig",
        _some(num_virtual_tokens=(1, 4), encoder_hidden_size=(8, 16), encoder_reparameterization_type=("MLP", "LSTM")),
    ),
    "prefix": ("PrefixTuningConfig", _some(num_virtual_tokens=(1, 3, 6), prefix_projection=(False, False, True))),
    "ln_tuning": ("LNTuningConfig", _some()),
    "trainable_tokens": ("TrainableTokensConfig", _some(token_indices=([7, 9], [5, 30, 40, 41]))),
    "vera": ("VeraConfig", _some(r=(2, 8), save_projection=(True, False), projection_prng_key=(0, 3))),
    "adalora": ("AdaLoraConfig", _some(init_r=(2, 6), lora_alpha=(2, 8), total_step=(10,))),
    "loha": ("LoHaConfig", _rank(alpha=(1, 8))),
    "lokr": ("LoKrConfig", _rank(alpha=(1, 8), decompose_both=(True, False), decompose_factor=(-1, 4))),
    "oft": (
        "OFTConfig",
        _some(r=(0,), oft_block_size=(4, 8, 16), block_share=(True, False), use_cayley_neumann=(True, False)),
    ),
    "boft": ("BOFTConfig", _some(boft_block_size=(4,), boft_n_butterfly_factor=(1, 2))),
    "c3a": ("C3AConfig", _some(block_size=(4, 8, 16))),
    "hra": ("HRAConfig", _some(r=(2, 4), apply_GS=(True, False))),
    "hira": ("HiraConfig", _rank()),
    "delora": ("DeloraConfig", _rank(delora_lambda=(4, 15))),
    "gralora": ("GraloraConfig", _some(r=(4, 8), gralora_k=(2, 4), hybrid_r=(0, 2), alpha=(4, 16))),
    "fourierft": ("FourierFTConfig", _some(n_frequency=(20, 100), scaling=(50.0, 150.0), random_loc_seed=(777, 3))),
    "waveft": (
        "WaveFTConfig",
        _some(n_frequency=(20, 100), wavelet_family=("db1", "db2", "sym4"), use_idwt=(True, False)),
    ),
    "randlora": ("RandLoraConfig", _some(r=(4, 8), save_projection=(True, False), sparse=(False, True))),
    "road": ("RoadConfig", _some(variant=("road_1", "road_2", "road_4"), group_size=(4, 8))),
    "shira": ("ShiraConfig", _some(r=(1, 2), random_seed=(1, 5))),
    "vblora": ("VBLoRAConfig", _rank(num_vectors=(10, 16), vector_length=(4, 8, 16), topk=(1, 2))),
    "miss": ("MissConfig", _some(r=(2, 4, 8), init_weights=(True, "bat", "mini"), mini_r=(1, 2))),
}
_PROMPTS = ("prompt", "p_tuning", "prefix")
_DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
_HEADLESS = ("trainable_tokens",)  # saves no head, so that its folder does not say what is answered
# Classes of a task with layers of their own, drawn at random, that the library does not save.
_UNSAVED: Mapping[str, tuple[str, ...]] = {
    "SEQ_CLS": ("deberta-v2", "modernbert"),
    "TOKEN_CLS": ("modernbert",),
    "QUESTION_ANS": ("modernbert",),
}
_WITHOUT_MODULES = (*_PROMPTS, "trainable_tokens", "ln_tuning")


@dataclass(frozen=True)
class Draw:
    """What was drawn. `headed`: whether the model's class has a head that PEFT saves with the adapter."""

    family: str
    method: str
    task: str
    config: Any
    even: bool = False  # rows of one length

    @property
    def headed(self) -> bool:
        """See the class."""
        return self.task != "FEATURE_EXTRACTION"


def draw(rng: random.Random, seed: int) -> Draw:
    """A case from a seed; every tuner comes once in as many seeds that follow one another."""
    method = list(TUNERS)[seed % len(TUNERS)]
    family = rng.choice(list(MODULES))
    if family == "vit" and method in _WITHOUT_MODULES and method != "ln_tuning":
        family = "bert"
    task = rng.choice(tuple(TASKS))
    if family == "vit":
        task = rng.choice(("FEATURE_EXTRACTION", "SEQ_CLS"))
    if method in _HEADLESS or family in _UNSAVED.get(task, ()):
        task = "FEATURE_EXTRACTION"
    sort, settings = TUNERS[method]
    made = settings(rng)
    if method not in _WITHOUT_MODULES:
        attention, feed = MODULES[family]
        made["target_modules"] = sorted(rng.choice((attention, (*attention, *feed), feed, attention[:1])))
    if method == "ia3":
        made["feedforward_modules"] = sorted(set(made["target_modules"]) & set(MODULES[family][1]))
    if method == "trainable_tokens":
        made["target_modules"] = [_words(family)]
    shown = None if family == "vit" else task
    saved = {"modules_to_save": ["classifier"]} if family == "vit" and task == "SEQ_CLS" else {}
    # Around a prompt the model is told no ids, and takes the last position for the last token, padding or not.
    even = method in _PROMPTS and family in _DECODERS and task == "SEQ_CLS"
    return Draw(family, method, task, getattr(peft, sort)(task_type=shown, **made, **saved), even)


def _words(family: str) -> str:
    named = {"gpt2": "wte", "modernbert": "tok_embeddings"}
    return "embed_tokens" if family in _DECODERS[1:] else named.get(family, "word_embeddings")
