"""Heads of transformers' own classes: which maps a family's class has, under which keys, and what it computes.

AdapterHub saves them from static models, PEFT under `modules_to_save`; both with the keys of the class. Activations
that a class takes from its configuration are those of the families' published models, but for heads over the
vocabulary, which take the backbone's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adapters.architectures.profile import Geometry
from adapters.errors import Misfit
from adapters.formats.labels import UNNAMED, Head, problem_of, unnamed
from adapters.heads.question_answering import LABELS
from adapters.manifest import HeadSpec

SEQUENCE, TOKEN, QUESTION, CHOICE = "sequence", "token", "question", "choice"
LANGUAGE, CAUSAL, SEQ2SEQ = "language", "causal", "seq2seq"
TASKS: Mapping[str, str] = {
    "ForSequenceClassification": SEQUENCE,
    "ForImageClassification": SEQUENCE,
    "ForTokenClassification": TOKEN,
    "ForQuestionAnswering": QUESTION,
    "ForMultipleChoice": CHOICE,
    "ForMaskedLM": LANGUAGE,
    "ForCausalLM": CAUSAL,
    "LMHeadModel": CAUSAL,
    "ForConditionalGeneration": SEQ2SEQ,
}
_TYPES: Mapping[str, str] = {
    SEQUENCE: "classification",
    TOKEN: "tagging",
    QUESTION: "question_answering",
    CHOICE: "multiple_choice",
    LANGUAGE: "masked_lm",
    CAUSAL: "causal_lm",
    SEQ2SEQ: "seq2seq_lm",
}
_VOCABULARIES = (LANGUAGE, CAUSAL, SEQ2SEQ)
AVERAGED = "the backbone's classifier_pooling is 'mean': heads over the mean of a row's states are not served"
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


@dataclass(frozen=True)
class OwnSettings:
    """What a head takes from its backbone where nothing else is said, one over the vocabulary above all.

    `norm_eps` and `activation` of its own layers, words in the `vocabulary`, and `width` of their vectors. `inverse`:
    whether the heads of the classes undo an invertible adapter, which depends on the library's version. `pooling`: the
    state that AdapterHub's flexible heads for rows read (`HeadSpec.pooling`). `scale`: `HeadSpec.scale` of a decoder's
    head over the vocabulary. `averaged`: the classes' heads for rows read the mean of all states.
    """

    norm_eps: float
    activation: str | None
    vocabulary: int
    width: int
    inverse: bool = False
    pooling: str = "first_token"
    scale: float | None = None
    averaged: bool = False


def own_settings(geometry: Geometry) -> OwnSettings:
    """A backbone's own settings."""
    return OwnSettings(
        geometry.norm_eps,
        geometry.activation,
        geometry.vocabulary,
        geometry.embedding_size,
        pooling=geometry.architecture.hub_pooling,
        scale=geometry.head_scale,
        averaged=geometry.averaged,
    )


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
    TOKEN: (),  # a class of T5's has it over an encoder alone
    SEQ2SEQ: (_CAUSAL,),
}
_BY_FAMILY: Mapping[str, Mapping[str, tuple[StaticHead, ...]]] = {
    "bert": {SEQUENCE: _over_pooler("bert"), CHOICE: _over_pooler("bert"), LANGUAGE: (_BERT_LANGUAGE,)},
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
        SEQUENCE: (_MODERNBERT,),
        TOKEN: (replace(_MODERNBERT, pooling="tokens"),),
        QUESTION: (replace(_MODERNBERT, pooling="tokens"),),
    },
    "gpt2": {SEQUENCE: (_SCORE,), CAUSAL: (_CAUSAL,)},
    "vit": {SEQUENCE: (StaticHead(("classifier",), None, "first_token"),)},
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _DECODER),
    **dict.fromkeys(("t5", "mt5", "bart", "mbart"), _SEQ2SEQ),
}
_EVERYWHERE: Mapping[str, tuple[StaticHead, ...]] = {
    TOKEN: (StaticHead(("classifier",), None, "tokens"),),
    QUESTION: (StaticHead(("qa_outputs",), None, "tokens"),),
}
_HEADS: Mapping[tuple[str, str], tuple[StaticHead, ...]] = {
    (family, task): heads for family, own in _BY_FAMILY.items() for task, heads in {**_EVERYWHERE, **own}.items()
}


def task_of(model_class: str) -> str:
    """The task of a transformers class; raises `Misfit` for heads that are not served."""
    for suffix, task in TASKS.items():
        if model_class.endswith(suffix):
            return task
    raise Misfit([f"the head of {model_class or 'an unknown class'} is not served"])


def read(tensors: Mapping[str, Tensor], model_type: str, task: str, own: OwnSettings | None = None) -> Head:
    """The head whose keys are exactly those of `tensors`; raises `Misfit` with every missing and left-over key.

    `own` is needed for heads over the vocabulary.
    """
    candidates = _HEADS.get((model_type, task))
    if not candidates:
        raise Misfit([f"no {task} head of {model_type!r} is served"])
    head = _likeliest(candidates, tensors)
    wanted = names(head)
    known = {*wanted.values(), *(key for keys in head.copies.values() for key in keys)}
    reasons = [f"{key} belongs to no head that is served" for key in sorted(set(tensors) - known)]
    found: dict[str, Tensor] = {}
    for native, key in wanted.items():
        held = [tensors[name] for name in (key, *head.copies.get(native, ())) if name in tensors]
        if not held:
            reasons.append(f"the head lacks {key}")
            continue
        if any(not torch.equal(held[0], copy) for copy in held[1:]):
            reasons.append(f"the copies of {key} differ from one another")
        found[native] = held[0]
    if own is not None and own.averaged and task == SEQUENCE:
        reasons.append(AVERAGED)
    if reasons:
        raise Misfit(reasons)
    first = found["head/0/weight"]
    found |= {native: torch.zeros(len(first), dtype=first.dtype) for native in head.lacks}
    if task in (LANGUAGE, SEQ2SEQ) and own is None:
        raise Misfit(["a head over the vocabulary is read for a backbone, whose settings it takes"])
    return Head(_spec(head, task, found, own), found, (UNNAMED,) if task in (SEQUENCE, TOKEN) else ())


def has(path: str, model_type: str, task: str) -> bool:
    """Whether the class of a task counts the linear map at `path` among its head's."""
    return any(path in head.maps for head in _HEADS.get((model_type, task), ()))


def lacking(tensors: Collection[str], model_type: str, task: str) -> frozenset[str]:
    """The keys of the class's head that are not there; none where it has no head for the task."""
    candidates = _HEADS.get((model_type, task), ())
    head = _likeliest(candidates, tensors) if candidates else None
    return frozenset() if head is None else frozenset(names(head).values()) - frozenset(tensors)


def _likeliest(candidates: Sequence[StaticHead], tensors: Collection[str]) -> StaticHead:
    return next((one for one in candidates if f"{one.maps[0]}.weight" in tensors), candidates[-1])


def names(head: StaticHead) -> dict[str, str]:
    """Native name -> key of the class, of all that the class has."""
    keys = {f"head/{i}/{kind}": f"{key}.{kind}" for i, key in enumerate(head.maps) for kind in head.kinds}
    if head.norm is not None:
        keys |= {f"head/0/norm.{kind}": f"{head.norm}.{kind}" for kind in ("weight", "bias")}
    return {native: key for native, key in keys.items() if native not in head.lacks}


def like(spec: HeadSpec, model_type: str, tasks: Collection[str] = (SEQUENCE, TOKEN)) -> tuple[str, StaticHead] | None:
    """(task, head) of the family's class that computes the same as `spec`, if there is one among the tasks."""
    shape = (spec.pooling, spec.layers, spec.norm_eps is not None, spec.bias)
    for (family, task), heads in _HEADS.items():
        if family != model_type or task not in tasks or _type_of(spec) != _TYPES[task]:
            continue
        for head in heads:
            same = (head.pooling, len(head.maps), head.norm is not None, head.bias) == shape
            if same and head.activation in (spec.activation, OWN):
                return task, head
    return None


def _type_of(spec: HeadSpec) -> str:
    return "classification" if spec.type == "multilabel_classification" else spec.type


def _spec(head: StaticHead, task: str, found: Mapping[str, Tensor], own: OwnSettings | None) -> HeadSpec:
    last = found[f"head/{len(head.maps) - 1}/weight"]
    outputs, head_type = last.shape[0], _TYPES[task]
    labels = {
        QUESTION: LABELS if outputs == len(LABELS) else unnamed(outputs),
        CHOICE: (),
        **dict.fromkeys(_VOCABULARIES, ()),
    }
    language = task in _VOCABULARIES
    return HeadSpec(
        type=head_type,
        layers=len(head.maps),
        activation=own.activation if own and head.activation == OWN else head.activation,
        bias=head.bias,
        pooling=head.pooling,
        labels=labels.get(task, unnamed(outputs)),
        problem_type=problem_of(head_type, outputs),
        vocabulary=outputs if language else None,
        width=last.shape[-1] if language else None,
        norm_eps=head.norm_eps or (own.norm_eps if own and head.norm is not None else None),
        inverse=own is not None and own.inverse if language else True,
        scale=own.scale if own is not None and task == SEQ2SEQ else None,
    )
