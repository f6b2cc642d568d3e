"""Which maps the heads of transformers' own classes have, under which keys, and what they compute: a table of families.

Activations that a class takes from its configuration are those of the families' published models, but for heads over
the vocabulary, which take the backbone's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from adapters.errors import Misfit
from adapters.manifest import ENCODER_TOKENS

SEQUENCE, TOKEN, QUESTION, CHOICE, NEXT = "sequence", "token", "question", "choice", "next"
LANGUAGE, CAUSAL, SEQ2SEQ = "language", "causal", "seq2seq"
TASKS: Mapping[str, str] = {
    "ForSequenceClassification": SEQUENCE,
    "ForImageClassification": SEQUENCE,
    "ForTokenClassification": TOKEN,
    "ForQuestionAnswering": QUESTION,
    "ForMultipleChoice": CHOICE,
    "ForNextSentencePrediction": NEXT,
    "ForMaskedLM": LANGUAGE,
    "ForCausalLM": CAUSAL,
    "LMHeadModel": CAUSAL,
    "ForConditionalGeneration": SEQ2SEQ,
}
OWN = "the backbone's own"  # activation of a head that takes it from the backbone's configuration


@dataclass(frozen=True)
class StaticHead:
    """The linear maps of a head, first to last, and what stands between and before them.

    `norm`: the layer norm behind the first map (heads over a vocabulary). `copies`: further keys of a tensor, by
    native name; the class stores it under each of them. `bias`: whether the maps have biases. `lacks`: native tensors
    that the class has none of, which are zero here. `norm_eps` of a norm of the class's own, else the backbone's.
    """

    maps: tuple[str, ...]
    activation: str | None
    pooling: str
    norm: str | None = None
    copies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bias: bool = True
    lacks: tuple[str, ...] = ()
    norm_eps: float | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What a map stores."""
        return ("weight", "bias") if self.bias else ("weight",)


def _over_pooler(family: str) -> tuple[StaticHead, ...]:
    # A pooler is tanh(W h_0 + b): trained along, it is the first layer of a head over the first token.
    own = StaticHead((f"{family}.pooler.dense", "classifier"), "tanh", "first_token")
    return own, StaticHead(("classifier",), None, "pooler")


def _over_first(first: str, activation: str, last: str) -> tuple[StaticHead, ...]:
    return (StaticHead((first, last), activation, "first_token"),)


def _language(dense: str, norm: str, decoder: str, activation: str = OWN, bias: str | None = None) -> StaticHead:
    copies = {} if bias is None else {"head/1/bias": (bias,)}
    return StaticHead((dense, decoder), activation, "tokens", norm, copies)


_BERT_LANGUAGE = _language(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder",
    bias="cls.predictions.bias",
)
_ROBERTA_LANGUAGE = _language("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "gelu", "lm_head.bias")
_ELECTRA_LANGUAGE = _language(
    "generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head", "gelu"
)
_ALBERT_LANGUAGE = _language(
    "predictions.dense", "predictions.LayerNorm", "predictions.decoder", bias="predictions.bias"
)
_SCORE = StaticHead(("score",), None, "last_token", bias=False)
_CAUSAL = StaticHead(("lm_head",), None, "tokens", bias=False)
_MODERNBERT = StaticHead(
    ("head.dense", "classifier"),
    "gelu",
    "first_token",
    "head.norm",
    lacks=("head/0/bias", "head/0/norm.bias"),
    norm_eps=1e-5,
)
_MODERNBERT_ROWS = (_MODERNBERT, replace(_MODERNBERT, pooling="mean"))
_MODERNBERT_LANGUAGE = replace(_MODERNBERT, maps=("head.dense", "decoder"), pooling="tokens")
_POOLED = (StaticHead(("classifier",), None, "pooler"),)
_ROBERTA: Mapping[str, tuple[StaticHead, ...]] = {
    SEQUENCE: _over_first("classifier.dense", "tanh", "classifier.out_proj"),
    CHOICE: _POOLED,
    LANGUAGE: (_ROBERTA_LANGUAGE,),
}
_DECODER: Mapping[str, tuple[StaticHead, ...]] = {
    SEQUENCE: (_SCORE,),
    TOKEN: (StaticHead(("score",), None, "tokens"),),
    CAUSAL: (_CAUSAL,),
}
_SEQ2SEQ: Mapping[str, tuple[StaticHead, ...]] = {
    SEQUENCE: (StaticHead(("classification_head.dense", "classification_head.out_proj"), "tanh", "last_eos"),),
    TOKEN: (),
    SEQ2SEQ: (_CAUSAL,),
}
# A class of T5's is put around an encoder alone.
_T5 = {**_SEQ2SEQ, TOKEN: (StaticHead(("classifier",), None, ENCODER_TOKENS),)}
_BY_FAMILY: Mapping[str, Mapping[str, tuple[StaticHead, ...]]] = {
    "bert": {
        SEQUENCE: _over_pooler("bert"),
        CHOICE: _over_pooler("bert"),
        NEXT: (StaticHead(("cls.seq_relationship",), None, "pooler"),),
        LANGUAGE: (_BERT_LANGUAGE,),
    },
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": {
        SEQUENCE: _over_first("pre_classifier", "relu", "classifier"),
        CHOICE: _over_first("pre_classifier", "relu", "classifier"),
        LANGUAGE: (_language("vocab_transform", "vocab_layer_norm", "vocab_projector"),),
    },
    "electra": {
        SEQUENCE: _over_first("classifier.dense", "gelu", "classifier.out_proj"),
        CHOICE: _over_first("sequence_summary.summary", "gelu", "classifier"),
        LANGUAGE: (_ELECTRA_LANGUAGE,),
    },
    "albert": {SEQUENCE: _POOLED, CHOICE: _POOLED, LANGUAGE: (_ALBERT_LANGUAGE,)},
    "deberta-v2": {
        SEQUENCE: _over_first("pooler.dense", "gelu", "classifier"),
        CHOICE: _over_first("pooler.dense", "gelu", "classifier"),
        LANGUAGE: (_BERT_LANGUAGE,),
    },
    "modernbert": {
        SEQUENCE: _MODERNBERT_ROWS,
        CHOICE: _MODERNBERT_ROWS,
        LANGUAGE: (_MODERNBERT_LANGUAGE,),
        TOKEN: (replace(_MODERNBERT, pooling="tokens"),),
        QUESTION: (replace(_MODERNBERT, pooling="tokens"),),
    },
    "gpt2": {SEQUENCE: (_SCORE,), CAUSAL: (_CAUSAL,)},
    "vit": {SEQUENCE: (StaticHead(("classifier",), None, "first_token"),)},
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _DECODER),
    **dict.fromkeys(("bart", "mbart"), _SEQ2SEQ),
    **dict.fromkeys(("t5", "mt5"), _T5),
}
_EVERYWHERE: Mapping[str, tuple[StaticHead, ...]] = {
    TOKEN: (StaticHead(("classifier",), None, "tokens"),),
    QUESTION: (StaticHead(("qa_outputs",), None, "tokens"),),
}
HEADS: Mapping[tuple[str, str], tuple[StaticHead, ...]] = {
    (family, task): heads for family, own in _BY_FAMILY.items() for task, heads in {**_EVERYWHERE, **own}.items()
}


def of_family(task: str, model_type: str) -> str:
    """What a task is in a family: an encoder's class for causal language modelling, no decoder's, fills masks."""
    encodes = (model_type, CAUSAL) not in HEADS and (model_type, LANGUAGE) in HEADS
    return LANGUAGE if task == CAUSAL and encodes else task


def task_of(model_class: str) -> str:
    """The task of a transformers class; raises `Misfit` for heads that are not served."""
    for suffix, task in TASKS.items():
        if model_class.endswith(suffix):
            return task
    raise Misfit([f"the head of {model_class or 'an unknown class'} is not served"])


def names(head: StaticHead) -> dict[str, str]:
    """Native name -> key of the class, of all that the class has."""
    keys = {f"head/{i}/{kind}": f"{key}.{kind}" for i, key in enumerate(head.maps) for kind in head.kinds}
    if head.norm is not None:
        keys |= {f"head/0/norm.{kind}": f"{head.norm}.{kind}" for kind in ("weight", "bias")}
    return {native: key for native, key in keys.items() if native not in head.lacks}
