"""The head beside a tuner's tensors: which of transformers' own classes a folder was saved from.

PEFT's model for question answering keeps segment ids from the model that it is put around.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.record import Architecture
from adapters.errors import Misfit
from adapters.formats import static_classes, static_heads
from adapters.formats.labels import Head
from adapters.formats.peft.drawn import Drawn, drawn
from adapters.formats.peft.host import ROOT
from adapters.manifest import Manifest
from adapters.weights import Package

TASKS: Mapping[str | None, str | None] = {
    "SEQ_CLS": static_classes.SEQUENCE,
    "TOKEN_CLS": static_classes.TOKEN,
    "CAUSAL_LM": static_classes.CAUSAL,
    "SEQ_2_SEQ_LM": static_classes.SEQ2SEQ,
    "QUESTION_ANS": static_classes.QUESTION,
    "FEATURE_EXTRACTION": None,
    None: None,
}
_TASK_TYPES: Mapping[str, str] = {task: name for name, task in TASKS.items() if name is not None and task is not None}
# What PEFT has no task type for: it notes the class instead, whose name ends so.
_CLASSES: Mapping[str, str] = {
    static_classes.LANGUAGE: "ForMaskedLM",
    static_classes.CHOICE: "ForMultipleChoice",
    static_classes.NEXT: "ForNextSentencePrediction",
}


def task_in(config: Mapping[str, Any]) -> str | None:
    """The task whose class a configuration names; None where it names none that is served."""
    told = TASKS.get(config.get("task_type"))
    ends = (task for end, task in static_classes.TASKS.items() if _class_in(config).endswith(end))
    return next(ends, None) if told is None and config.get("task_type") is None else told


def _class_in(config: Mapping[str, Any]) -> str:
    mapping = config.get("auto_mapping")
    return str(mapping.get("base_model_class") or "") if isinstance(mapping, Mapping) else ""


def read(
    config: Mapping[str, Any],
    rest: Mapping[str, Tensor],
    model_type: str,
    reasons: list[str],
    own: static_heads.OwnSettings | None = None,
) -> Head | None:
    """The head that a folder's remaining tensors are; None where it has none, as language models that keep their own.

    `own`: the settings of the backbone, which some heads take.
    """
    task = TASKS[config.get("task_type")]
    try:
        if task is None and rest and config.get("task_type") is None:
            task = static_classes.task_of(_class_in(config))
        if task in (static_classes.CAUSAL, static_classes.SEQ2SEQ) and not rest:
            return None
        if task is not None:
            head = static_heads.read(rest, model_type, static_classes.of_family(task, model_type), own)
            unheeded = task == static_classes.QUESTION and ARCHITECTURES[model_type].segment_ids
            return replace(head, spec=replace(head.spec, segments=False)) if unheeded else head
    except Misfit as misfit:
        reasons += [_remedied(reason) for reason in misfit.reasons]
        return None
    reasons += [f"{key} belongs to no part that is served" for key in sorted(rest)]
    return None


def has(config: Mapping[str, Any], path: str, family: Architecture) -> bool:
    """Whether the class that a folder was saved from counts the linear map at `path` among its head's."""
    task = TASKS.get(config.get("task_type"))
    return task is not None and static_heads.has(path, family.model_type, task)


def left_out(
    config: Mapping[str, Any], rest: Mapping[str, Tensor], model_type: str, layers: int, seed: int | None
) -> Drawn:
    """What PEFT left out of the head, drawn under the seed; nothing without one, or where that is not all it lacks."""
    task = TASKS[config.get("task_type")]
    lacking = frozenset() if task is None else static_heads.lacking(rest, model_type, task)
    if seed is None or not lacking:
        return {}
    parts = drawn(rest, model_type, layers, seed)
    return parts if parts.keys() == lacking else {}


def write(package: Package, root: str = ROOT) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The head's tensors under PEFT's keys, which begin with `root`, and what the configuration says of it; raises `Misfit`."""
    manifest = package.manifest
    if manifest.head is None:
        return {}, {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}
    task, head = _like(manifest)
    stored = {f"{root}{key}": package.tensors[native] for native, key in static_classes.names(head).items()}
    copies = [(key, native) for native, keys in head.copies.items() for key in keys]
    stored |= {f"{root}{key}": package.tensors[native].clone() for key, native in copies}
    more = [native for native in head.lacks if package.tensors[native].any()]
    if more:
        raise Misfit([f"transformers' class has no {native}, which is not zero" for native in more])
    saved = sorted({_module(stem) for stem in (*head.maps, *([] if head.norm is None else [head.norm]))})
    family = ARCHITECTURES[manifest.requires.model_type]
    ending = "ForImageClassification" if family.images else _CLASSES.get(task)
    if ending is not None:
        return stored, {"task_type": None, "auto_mapping": _class(family, ending), "modules_to_save": saved}
    return stored, {"task_type": _TASK_TYPES[task], "modules_to_save": saved}


def _class(family: Architecture, ending: str) -> dict[str, str]:
    """One of transformers' classes of a family, as PEFT notes it."""
    stem, package = (
        family.hub_class.removesuffix("AdapterModel").removesuffix("Model"),
        family.model_type.replace("-", "_"),
    )
    return {
        "base_model_class": f"{stem}{ending}",
        "parent_library": f"transformers.models.{package}.modeling_{package}",
    }


def _remedied(reason: str) -> str:
    """What a head lacks was not saved, and is drawn anew at every load: without a seed no two loads answer alike."""
    lacking = reason.removeprefix("the head lacks ")
    if lacking == reason:
        return reason
    module = _module(lacking)
    return (
        f"{reason}: PEFT left it out, and it is drawn anew at every load; train with {module!r} in modules_to_save as"
        " well, or say the seed under which the model was loaded for training (head_seed)"
    )


def _like(manifest: Manifest) -> tuple[str, static_classes.StaticHead]:
    assert manifest.head is not None
    found = static_heads.like(manifest.head, manifest.requires.model_type, (*_TASK_TYPES, *_CLASSES))
    if found is None:
        raise Misfit(["PEFT saves heads of transformers' own classes, and this head is not like any of them"])
    pools = "mean" if manifest.requires.averaged else "first_token"
    if found[1].pooling != pools and static_heads.either(manifest.requires.model_type, found[0]):
        reason = f"the head reads {found[1].pooling!r}, but transformers' class reads {pools!r} on this backbone"
        raise Misfit([f"{reason}: change the backbone's classifier_pooling, or write another format"])
    segmented = ARCHITECTURES[manifest.requires.model_type].segment_ids
    if found[0] == static_classes.QUESTION and segmented and manifest.head.segments:
        raise Misfit(["PEFT's question answering ignores segment ids, which this head heeds"])
    return found


def _module(stem: str) -> str:
    """The module that PEFT saves whole for a linear map of the head."""
    return "pooler" if ".pooler." in stem else stem.split(".", maxsplit=1)[0]
