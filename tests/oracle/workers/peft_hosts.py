"""The models that PEFT is put around: families, transformers' classes of the tasks, and what can be adapted in each."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

TASKS: Mapping[str, str] = {  # -> transformers' class
    "FEATURE_EXTRACTION": "AutoModel",
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
}
HEADED = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")  # their heads are saved with the adapter
GENERATING = ("CAUSAL_LM", "SEQ_2_SEQ_LM")  # their heads are the backbone's own


@dataclass(frozen=True)
class Modules:
    """Ends of the paths of a family's maps in its attention and its feed-forward part, its norms, its table of words, and others."""

    attention: tuple[str, ...]
    feed: tuple[str, ...]
    norms: tuple[str, ...]
    words: str | None = "word_embeddings"
    tables: tuple[str, ...] = ()


_TABLES = ("position_embeddings", "token_type_embeddings", "word_embeddings")
_BERT = Modules(
    ("query", "key", "value"),
    ("intermediate.dense", "output.dense"),
    ("attention.output.LayerNorm", "LayerNorm"),
    tables=_TABLES,
)
_LLAMA = Modules(
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("gate_proj", "up_proj", "down_proj"),
    ("input_layernorm", "post_attention_layernorm"),
    "embed_tokens",
)
_T5 = Modules(
    ("q", "k", "v", "o"), ("wi", "wo"), ("layer_norm",), "shared", ("embed_tokens", "relative_attention_bias")
)
_BART = Modules(
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("fc1", "fc2"),
    ("self_attn_layer_norm", "final_layer_norm"),
    "shared",
    ("embed_positions", "embed_tokens"),
)
FAMILIES: Mapping[str, Modules] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "electra": _BERT,
    "distilbert": Modules(
        ("q_lin", "k_lin", "v_lin"), ("lin1", "lin2"), ("sa_layer_norm", "output_layer_norm"), tables=_TABLES[::2]
    ),
    "albert": Modules(("query", "key", "value"), ("ffn", "ffn_output"), ("full_layer_layer_norm",), tables=_TABLES),
    "deberta-v2": Modules(
        ("query_proj", "key_proj", "value_proj"),
        ("intermediate.dense",),
        ("attention.output.LayerNorm", "encoder.LayerNorm"),
        tables=("rel_embeddings", "word_embeddings"),
    ),
    "modernbert": Modules(("Wqkv",), ("mlp.Wo",), ("mlp_norm",), "tok_embeddings"),
    "gpt2": Modules(("c_attn",), ("mlp.c_fc", "mlp.c_proj"), ("ln_1", "ln_2", "ln_f"), "wte", ("wpe",)),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "t5": _T5,
    "mt5": replace(_T5, feed=("wi_0", "wi_1", "wo")),
    "bart": _BART,
    "mbart": _BART,
    "vit": Modules(("q_proj", "k_proj", "v_proj"), ("mlp.fc1", "mlp.fc2"), ("layernorm_before",), None),
}
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
SECOND = ("t5", "mt5", "bart", "mbart")  # encoder-decoders
_ROWS = ("FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
# Classes of a task with layers of their own, drawn at random, that the library does not save.
_UNSAVED: Mapping[str, tuple[str, ...]] = {
    "SEQ_CLS": ("deberta-v2", "modernbert"),
    "TOKEN_CLS": ("modernbert",),
    "QUESTION_ANS": ("modernbert",),
}


def tasks_of(family: str) -> tuple[str, ...]:
    """The tasks whose models PEFT saves whole."""
    if family == "vit":
        return ("FEATURE_EXTRACTION", "SEQ_CLS")
    if family in SECOND:
        more = ("TOKEN_CLS",) if family in ("t5", "mt5") else ()  # over the encoder alone
        return ("FEATURE_EXTRACTION", "SEQ_CLS", *more, "QUESTION_ANS", "SEQ_2_SEQ_LM")
    more = ("CAUSAL_LM",) if family in DECODERS else ()
    return (*(task for task in _ROWS if family not in _UNSAVED.get(task, ())), *more)


def targets(rng: random.Random, family: str) -> list[str]:
    """Some of a family's maps, as a list of ends."""
    held = FAMILIES[family]
    return sorted(rng.choice((held.attention, (*held.attention, *held.feed), held.feed, held.attention[:1])))
