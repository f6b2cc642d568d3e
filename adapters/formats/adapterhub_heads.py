"""Prediction heads as AdapterHub saves them: flexible heads by name, and the heads of transformers' own classes.

A flexible head is [dropout, linear, activation] x (layers - 1), dropout, linear in one `Sequential`; the places of
its linear maps there are its keys. Dropout does nothing at inference.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.formats import static_heads
from adapters.formats.adapterhub_config import activation
from adapters.formats.labels import UNNAMED, Head, ordered, problem_of, unnamed
from adapters.manifest import HEAD_TYPES, HeadSpec


def read(saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Head:
    """The head of a whole `head_config.json`; raises `Misfit` with every reason."""
    config = saved.get("config")
    if config is None:
        return _static(saved, tensors)
    if not isinstance(config, Mapping):
        raise Misfit(["head_config.json: 'config' is neither an object nor null"])
    spec = _spec(saved, config)
    keys = flexible_keys(str(saved.get("name")), spec, last_bias=bool(config.get("bias", True)))
    missing = [f"the head lacks {key}" for key in keys.values() if key not in tensors]
    extra = [f"{key} belongs to no part of the head" for key in sorted(set(tensors) - set(keys.values()))]
    if missing or extra:
        raise Misfit(missing + extra)
    found = {native: tensors[key] for native, key in keys.items()}
    if spec.bias and not config.get("bias", True):
        # Only the last map lacks its bias, which is a bias of zero.
        last = found[f"head/{spec.layers - 1}/weight"]
        found[f"head/{spec.layers - 1}/bias"] = torch.zeros(last.shape[0], dtype=last.dtype)
    return Head(spec, found, () if config.get("label2id") is not None else (UNNAMED,))


def write(spec: HeadSpec, tensors: Mapping[str, Tensor], name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(the members `name` and `config` of a head_config.json, tensors by key) of an equal flexible head."""
    config = {
        "head_type": spec.type,
        "num_labels": len(spec.labels),
        "layers": spec.layers,
        "activation_function": spec.activation,
        "bias": spec.bias,
        "label2id": {label: i for i, label in enumerate(spec.labels)},
        "dropout_prob": None,
    }
    if spec.type != "tagging":
        config["use_pooler"] = spec.pooling == "pooler"
    keys = flexible_keys(name, spec, last_bias=spec.bias)
    return {"name": name, "config": config}, {key: tensors[native] for native, key in keys.items()}


def write_like(saved: Mapping[str, Any], spec: HeadSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Tensors by the keys of the configuration the head came with; None where that would not read as the same head."""
    held = {name: tensor for name, tensor in tensors.items() if name.startswith("head/")}
    config = saved.get("config")
    try:
        if isinstance(config, Mapping):
            if _spec(saved, config) != spec:
                return None
            keys = flexible_keys(str(saved.get("name")), spec, last_bias=bool(config.get("bias", True)))
            dropped = set(held) - set(keys)
            if any(bool(held[name].any()) for name in dropped):
                return None
        else:
            like = static_heads.like(spec, str(saved.get("model_type")))
            if like is None:
                return None
            keys = static_heads.names(like[1])
        stored = {key: held[native] for native, key in keys.items()}
        return stored if read(saved, stored).spec == spec else None
    except Misfit:
        return None


def flexible_keys(name: str, spec: HeadSpec, *, last_bias: bool) -> dict[str, str]:
    """Native name -> key. Without an activation its slot in the `Sequential` is gone."""
    step = 2 if spec.activation is None else 3
    keys: dict[str, str] = {}
    for i in range(spec.layers):
        stem = f"heads.{name}.{1 + i * step}"
        keys[f"head/{i}/weight"] = f"{stem}.weight"
        if spec.bias and (i < spec.layers - 1 or last_bias):
            keys[f"head/{i}/bias"] = f"{stem}.bias"
    return keys


def _spec(saved: Mapping[str, Any], config: Mapping[str, Any]) -> HeadSpec:
    head_type = config.get("head_type")
    if head_type not in HEAD_TYPES:
        raise Misfit([f"AdapterHub's head type {head_type!r} is not served yet"])
    layers, count = config.get("layers"), config.get("num_labels")
    for member, value in (("layers", layers), ("num_labels", count)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
            raise Misfit([f"head_config.json: {member} must be a positive integer, not {value!r}"])
    assert isinstance(layers, int)
    assert isinstance(count, int)
    name = config.get("activation_function")
    function = None if not name else activation(name, versioned="version" in saved)
    pooling = "tokens" if head_type == "tagging" else "pooler" if config.get("use_pooler") else "first_token"
    return HeadSpec(
        type=str(head_type),
        layers=layers,
        activation="leaky_relu" if function == "leakyrelu" else function,
        bias=layers > 1 or bool(config.get("bias", True)),
        pooling=pooling,
        labels=ordered(config.get("label2id"), count) or unnamed(count),
        problem_type=problem_of(str(head_type), count),
        name=None if saved.get("name") is None else str(saved["name"]),
    )


def _static(saved: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Head:
    task = static_heads.task_of(str(saved.get("model_class") or ""))
    head = static_heads.read(tensors, str(saved.get("model_type")), task)
    labels = ordered(saved.get("label2id"), len(head.spec.labels))
    return head if labels is None else replace(head, spec=replace(head.spec, labels=labels), warnings=())
