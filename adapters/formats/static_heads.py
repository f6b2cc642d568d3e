"""Heads of transformers' own classes, read by the keys of the class.

AdapterHub saves them from static models, PEFT under `modules_to_save`; both with the keys of the class.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.errors import Misfit
from adapters.formats.labels import UNNAMED, Head, problem_of, unnamed
from adapters.formats.static_classes import (
    CAUSAL,
    CHOICE,
    HEADS,
    LANGUAGE,
    NEXT,
    OWN,
    QUESTION,
    SEQ2SEQ,
    SEQUENCE,
    TOKEN,
    StaticHead,
    names,
)
from adapters.heads.question_answering import LABELS
from adapters.manifest import HeadSpec

_TYPES: Mapping[str, str] = {
    SEQUENCE: "classification",
    TOKEN: "tagging",
    QUESTION: "question_answering",
    NEXT: "classification",
    CHOICE: "multiple_choice",
    LANGUAGE: "masked_lm",
    CAUSAL: "causal_lm",
    SEQ2SEQ: "seq2seq_lm",
}
_VOCABULARIES = (LANGUAGE, CAUSAL, SEQ2SEQ)


@dataclass(frozen=True)
class OwnSettings:
    """What a head takes from its backbone where nothing else is said, one over the vocabulary above all.

    `norm_eps` and `activation` of its own layers, words in the `vocabulary`, and `width` of their vectors. `inverse`:
    whether the heads of the classes undo an invertible adapter, which depends on the library's version. `pooling`: the
    state that AdapterHub's flexible heads for rows read (`HeadSpec.pooling`). `scale`: `HeadSpec.scale` of a decoder's
    head over the vocabulary. `averaged`: the classes' heads for rows read the mean of all states. `tied`:
    those over the vocabulary read the table of words.
    """

    norm_eps: float
    activation: str | None
    vocabulary: int
    width: int
    inverse: bool = False
    pooling: str = "first_token"
    scale: float | None = None
    averaged: bool = False
    tied: bool = False


def settings_of(head: HeadSpec) -> OwnSettings:
    """The settings of the backbone that a head was read for, as far as it took any."""
    eps, width = 0.0 if head.norm_eps is None else head.norm_eps, head.width or 0
    scale, averaged = head.scale, head.pooling == "mean"
    return OwnSettings(eps, head.activation, head.vocabulary or 0, width, scale=scale, averaged=averaged)


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
        tied=geometry.tied,
    )


def read(tensors: Mapping[str, Tensor], model_type: str, task: str, own: OwnSettings | None = None) -> Head:
    """The head whose keys are exactly those of `tensors`; raises `Misfit` with every missing and left-over key.

    `own` is needed for heads over the vocabulary.
    """
    candidates = HEADS.get((model_type, task))
    if not candidates:
        raise Misfit([f"no {task} head of {model_type!r} is served"])
    head = _likeliest(_pooling(candidates, own), tensors)
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
    if reasons:
        raise Misfit(reasons)
    first = found["head/0/weight"]
    found |= {native: torch.zeros(len(first), dtype=first.dtype) for native in head.lacks}
    if task in (LANGUAGE, SEQ2SEQ) and own is None:
        raise Misfit(["a head over the vocabulary is read for a backbone, whose settings it takes"])
    return Head(_spec(head, task, found, own), found, (UNNAMED,) if task in (SEQUENCE, TOKEN) else ())


def has(path: str, model_type: str, task: str) -> bool:
    """Whether the class of a task counts the linear map at `path` among its head's."""
    return any(path in head.maps for head in HEADS.get((model_type, task), ()))


def lacking(tensors: Collection[str], model_type: str, task: str) -> frozenset[str]:
    """The keys of the class's head that are not there; none where it has no head for the task."""
    candidates = HEADS.get((model_type, task), ())
    head = _likeliest(candidates, tensors) if candidates else None
    return frozenset() if head is None else frozenset(names(head).values()) - frozenset(tensors)


def _likeliest(candidates: Sequence[StaticHead], tensors: Collection[str]) -> StaticHead:
    return next((one for one in candidates if f"{one.maps[0]}.weight" in tensors), candidates[-1])


def _pooling(candidates: Sequence[StaticHead], own: OwnSettings | None) -> Sequence[StaticHead]:
    """Those that read what the backbone's configuration says, in families whose heads heed it."""
    averaged = own is not None and own.averaged
    return tuple(one for one in candidates if (one.pooling == "mean") == averaged) or candidates


def either(model_type: str, task: str) -> bool:
    """Whether the class of a task reads the mean or a token, as its backbone's configuration says."""
    return "mean" in {one.pooling for one in HEADS.get((model_type, task), ())}


def like(spec: HeadSpec, model_type: str, tasks: Collection[str] = (SEQUENCE, TOKEN)) -> tuple[str, StaticHead] | None:
    """(task, head) of the family's class that computes the same as `spec`, if there is one among the tasks."""
    shape = (spec.pooling, spec.layers, spec.norm_eps is not None, spec.bias)
    for (family, task), heads in HEADS.items():
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
