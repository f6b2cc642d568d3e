"""Heads of transformers' own classes: which linear maps a family's class has, under which keys.

AdapterHub saves them from static models, PEFT under `modules_to_save`; both with the keys of the class.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from adapters.errors import Misfit
from adapters.formats.labels import UNNAMED, Head, problem_of, unnamed
from adapters.manifest import HeadSpec

SEQUENCE, TOKEN = "sequence", "token"
TASKS: Mapping[str, str] = {"ForSequenceClassification": SEQUENCE, "ForTokenClassification": TOKEN}


@dataclass(frozen=True)
class StaticHead:
    """The linear maps of a head, first to last, and what stands between and before them."""

    maps: tuple[str, ...]
    activation: str | None
    pooling: str


_TOKEN = StaticHead(("classifier",), None, "tokens")
_ROBERTA = StaticHead(("classifier.dense", "classifier.out_proj"), "tanh", "first_token")
# BERT's pooler is tanh(W h_0 + b): trained along, it is the first layer of a head over the first token.
_BERT_OWN_POOLER = StaticHead(("bert.pooler.dense", "classifier"), "tanh", "first_token")
_HEADS: Mapping[tuple[str, str], tuple[StaticHead, ...]] = {
    ("bert", SEQUENCE): (_BERT_OWN_POOLER, StaticHead(("classifier",), None, "pooler")),
    ("roberta", SEQUENCE): (_ROBERTA,),
    ("xlm-roberta", SEQUENCE): (_ROBERTA,),
    ("distilbert", SEQUENCE): (StaticHead(("pre_classifier", "classifier"), "relu", "first_token"),),
    **{(family, TOKEN): (_TOKEN,) for family in ("bert", "roberta", "xlm-roberta", "distilbert")},
}


def task_of(model_class: str) -> str:
    """The task of a transformers class; raises `Misfit` for heads that are not served."""
    for suffix, task in TASKS.items():
        if model_class.endswith(suffix):
            return task
    raise Misfit([f"the head of {model_class or 'an unknown class'} is not served yet"])


def read(tensors: Mapping[str, Tensor], model_type: str, task: str) -> Head:
    """The head whose keys are exactly those of `tensors`; raises `Misfit` with every missing and left-over key."""
    candidates = _HEADS.get((model_type, task))
    if candidates is None:
        raise Misfit([f"no {task} head of {model_type!r} is served yet"])
    head = next((one for one in candidates if f"{one.maps[0]}.weight" in tensors), candidates[-1])
    wanted = names(head)
    reasons = [f"the head lacks {key}" for key in wanted.values() if key not in tensors]
    reasons += [f"{key} belongs to no head that is served" for key in sorted(set(tensors) - set(wanted.values()))]
    if reasons:
        raise Misfit(reasons)
    outputs = tensors[f"{head.maps[-1]}.weight"].shape[0]
    head_type = "tagging" if task == TOKEN else "classification"
    spec = HeadSpec(
        type=head_type,
        layers=len(head.maps),
        activation=head.activation,
        bias=True,
        pooling=head.pooling,
        labels=unnamed(outputs),
        problem_type=problem_of(head_type, outputs),
    )
    return Head(spec, {native: tensors[key] for native, key in wanted.items()}, (UNNAMED,))


def names(head: StaticHead) -> dict[str, str]:
    """Native name -> key of the class."""
    return {f"head/{i}/{kind}": f"{key}.{kind}" for i, key in enumerate(head.maps) for kind in ("weight", "bias")}


def like(spec: HeadSpec, model_type: str) -> tuple[str, StaticHead] | None:
    """(task, head) of the family's class that computes the same as `spec`, if there is one."""
    for (family, task), heads in _HEADS.items():
        for head in heads:
            same = (head.activation, head.pooling, len(head.maps)) == (spec.activation, spec.pooling, spec.layers)
            if family == model_type and same and spec.bias and (task == TOKEN) == (spec.type == "tagging"):
                return task, head
    return None
