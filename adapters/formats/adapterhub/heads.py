"""Prediction heads as AdapterHub saves them: flexible heads by name, and the heads of transformers' own classes.

Dropout does nothing at inference.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.geometry import Geometry
from adapters.architectures.record import Architecture
from adapters.errors import Misfit
from adapters.formats import static_classes, static_heads
from adapters.formats.adapterhub.head_config import config_of, flexible_keys, names_labels, spec_of
from adapters.formats.labels import OTHERS, UNNAMED, Head, ordered
from adapters.formats.static_heads import OwnSettings
from adapters.manifest import VOCABULARIES, HeadSpec


def read(saved: Mapping[str, Any], tensors: Mapping[str, Tensor], geometry: Geometry) -> Head:
    """The head of a whole `head_config.json` for a backbone; raises `Misfit` with every reason."""
    return _read(saved, tensors, static_heads.own_settings(geometry))


def strangers(rest: Iterable[str], name: str) -> set[str]:
    """Left-over tensors that are another head's: the library saves all whose names start with this one's."""
    return {key for key in rest if key.startswith(f"heads.{name}") and not key.startswith(f"heads.{name}.")}


def write(
    spec: HeadSpec, tensors: Mapping[str, Tensor], name: str, family: Architecture
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(the members `name` and `config` of a head_config.json, tensors by key) of an equal flexible head.

    Raises `Misfit` where the library has no such head in the family.
    """
    config = config_of(spec, family)
    biased = spec if spec.type in VOCABULARIES else replace(spec, bias=True)
    stored = {}
    for native, key in flexible_keys(name, biased, last_bias=bool(config.get("bias", True))).items():
        # Most of the library's maps always have a bias: one that does nothing stands for none.
        weight = tensors.get(native.replace("/bias", "/weight"))
        missing = None if weight is None else weight.new_zeros(weight.shape[0])
        held = tensors.get(native, missing)
        if held is None:
            raise Misfit([f"the head lacks {native}"])
        stored[key] = held
    return {"name": name, "config": config}, stored


def write_like(saved: Mapping[str, Any], spec: HeadSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Tensors by the keys of the configuration the head came with; None where that would not read as the same head."""
    held = {name: tensor for name, tensor in tensors.items() if name.startswith("head/")}
    family = ARCHITECTURES.get(str(saved.get("model_type")))
    if family is None:
        return None
    own = OwnSettings(
        spec.norm_eps or 0.0,
        spec.activation,
        spec.vocabulary or 0,
        spec.width or 0,
        pooling=family.hub_pooling,
        scale=spec.scale,
    )
    config = saved.get("config")
    copies: Mapping[str, tuple[str, ...]] = {}
    try:
        if isinstance(config, Mapping):
            if spec_of(saved, config, own) != spec:
                return None
            keys = flexible_keys(str(saved.get("name")), spec, last_bias=bool(config.get("bias", True)))
            dropped = set(held) - set(keys)
            if any(bool(held[name].any()) for name in dropped):
                return None
        else:
            like = static_heads.like(spec, str(saved.get("model_type")), static_classes.TASKS.values())
            if like is None:
                return None
            keys, copies = static_classes.names(like[1]), like[1].copies
        stored = {key: held[native] for native, key in keys.items()}
        stored |= {key: held[native] for native, again in copies.items() for key in again}
        return stored if _read(saved, stored, own).spec == spec else None
    except Misfit:
        return None


def _read(saved: Mapping[str, Any], tensors: Mapping[str, Tensor], own: OwnSettings) -> Head:
    config = saved.get("config")
    if config is None:
        return _static(saved, tensors, own)
    if not isinstance(config, Mapping):
        raise Misfit(["head_config.json: 'config' is neither an object nor null"])
    spec = spec_of(saved, config, own)
    name = str(saved.get("name"))
    keys = flexible_keys(name, spec, last_bias=bool(config.get("bias", True)))
    rest = set(tensors) - set(keys.values())
    others = strangers(rest, name)
    missing = [f"the head lacks {key}" for key in keys.values() if key not in tensors]
    extra = [f"{key} belongs to no part of the head" for key in sorted(rest - others)]
    if missing or extra:
        raise Misfit(missing + extra)
    found = {native: tensors[key] for native, key in keys.items()}
    if spec.bias and not config.get("bias", True):
        # Only the last map lacks its bias, which is a bias of zero.
        last = found[f"head/{spec.layers - 1}/weight"]
        found[f"head/{spec.layers - 1}/bias"] = torch.zeros(last.shape[0], dtype=last.dtype)
    warnings: tuple[str, ...] = () if names_labels(config) else (UNNAMED,)
    if others:
        warnings += (OTHERS.format(len(others)),)
    return Head(spec, found, warnings)


def _static(saved: Mapping[str, Any], tensors: Mapping[str, Tensor], own: OwnSettings) -> Head:
    task = static_classes.task_of(str(saved.get("model_class") or ""))
    # The classes undid an invertible adapter until the library became `adapters`; since then flexible heads alone do.
    own = replace(own, inverse=not str(saved.get("version", "")).startswith("adapters."))
    head = static_heads.read(tensors, str(saved.get("model_type")), task, own)
    if task not in (static_classes.SEQUENCE, static_classes.TOKEN):
        return head
    labels = ordered(saved.get("label2id"), len(head.spec.labels))
    return head if labels is None else replace(head, spec=replace(head.spec, labels=labels), warnings=())
