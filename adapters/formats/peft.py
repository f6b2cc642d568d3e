"""PEFT's folders (LoRA and (IA)3, with the head under `modules_to_save`): adapter_config.json, adapter_model.safetensors.

The tensors say what is adapted; the configuration must agree with them, module by module, or the folder is refused.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.profile import BackboneProfile
from adapters.architectures.record import Architecture
from adapters.errors import Misfit
from adapters.formats import files, static_heads
from adapters.formats.labels import Head, relabel
from adapters.formats.peft_export import write_config, write_stored
from adapters.formats.peft_modules import is_feed_forward, modules, of_pattern, targeted
from adapters.manifest import Manifest, PartSpec, Provenance, Requires
from adapters.weights import Package

LIBRARY = "peft"
WEIGHTS = "adapter_model.safetensors"
ROOT = "base_model.model."
_TASKS: Mapping[str | None, str | None] = {
    "SEQ_CLS": static_heads.SEQUENCE,
    "TOKEN_CLS": static_heads.TOKEN,
    "FEATURE_EXTRACTION": None,
    None: None,
}
_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "LORA": {
        "lora_A.weight": "lora_A",
        "lora_B.weight": "lora_B",
        "lora_B.bias": "lora_bias",
        "lora_magnitude_vector": "magnitude",
    },
    "IA3": {"ia3_l": "scale"},
}
_ADAPTER_KEY = re.compile(r"(?P<path>.+?)\.(?P<parameter>(?:lora_|ia3_|base_layer|token_adapter|trainable_tokens).*)")
# Settings that change what the adapter computes, or what the base weights are, in ways that are not served.
_UNSERVED: Mapping[str, str] = {
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "layer_replication": "layer replication",
    "trainable_token_indices": "trainable tokens",
    "target_parameters": "LoRA on bare parameters (target_parameters)",
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
}
# Every setting that is read, or that says nothing about what a trained adapter computes; others may, and are refused.
_KNOWN = frozenset(
    [
        "peft_type",
        "task_type",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "auto_mapping",
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "feedforward_modules",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "lora_bias",
        "bias",
        "fan_in_fan_out",
        "lora_dropout",
        "init_lora_weights",
        "init_ia3_weights",
        "eva_config",
        "corda_config",
        "loftq_config",
        "lora_ga_config",
        "megatron_core",
        "qalora_group_size",
        "ensure_weight_tying",
        "runtime_config",
    ]
)
# Settings that have to be of one kind, where they are said.
_FORMS: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("an object", Mapping, ("rank_pattern", "alpha_pattern", "auto_mapping")),
    ("true or false", bool, ("use_rslora", "use_dora", "lora_bias")),
    ("a list or a text", list | str, ("feedforward_modules",)),
)
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class Content:
    """What a folder's configuration and tensors say together."""

    part: PartSpec
    tensors: Mapping[str, Tensor]
    head: Head | None
    prefixed: bool  # keys hold the family's prefix: it was saved from a model with a head


def read(
    folder: Path,
    profile: BackboneProfile,
    *,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
) -> Package:
    """Read a folder for a backbone; without `labels` they are LABEL_i and `manifest.source["warnings"]` says so.

    Raises `Misfit` with every reason, `UnsafeFile` where weights are pickles, `InvalidPackage` where files are broken.
    """
    config = files.read_json(folder / "adapter_config.json")
    geometry = profile.geometry
    if geometry.model_type not in ARCHITECTURES:
        raise Misfit([f"PEFT's adapters for {geometry.model_type!r} are not served yet"])
    family = geometry.architecture
    _reject_unserved(config)
    content = interpret(config, files.read_tensors(folder, WEIGHTS), family, geometry.layers)
    head = content.head
    if head is not None and head.spec.pooling == "pooler" and not profile.has_pooler:
        raise Misfit(["the head needs the backbone's pooler, which its checkpoint does not hold"])
    manifest = Manifest(
        kind="adapter",
        requires=Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads),
        parts=(content.part,),
        head=None if head is None else head.spec,
        provenance=Provenance(
            LIBRARY, str(config.get("peft_version") or ""), str(config.get("base_model_name_or_path") or "")
        ),
        source={
            "adapter_config": config,
            "prefixed": content.prefixed,
            "warnings": list(head.warnings) if head is not None else [],
        },
    )
    tensors = {**content.tensors, **({} if head is None else head.tensors)}
    return relabel(Package(manifest, tensors), labels, problem_type)


def write(package: Package, folder: Path) -> None:
    """Write PEFT's layout; raises `Misfit` for what PEFT can not hold. PEFT's folders do not name labels."""
    manifest = package.manifest
    family = ARCHITECTURES.get(manifest.requires.model_type)
    if family is None or manifest.kind != "adapter" or len(manifest.parts) != 1:
        raise Misfit(["PEFT's folders hold one method of a known backbone family, with or without its head"])
    made = manifest.provenance.library == LIBRARY
    prefixed = bool(manifest.source.get("prefixed")) if made else manifest.head is not None
    stored = write_stored(package, family, f"{ROOT}{family.prefix}." if prefixed else ROOT)
    config = manifest.source.get("adapter_config")
    if not made or not isinstance(config, Mapping) or not _agrees(config, stored, family, manifest):
        config = write_config(manifest, family, f"{family.prefix}." if prefixed else "")
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "adapter_config.json", config)
    files.write_tensors(folder / WEIGHTS, stored)


def interpret(config: Mapping[str, Any], stored: Mapping[str, Tensor], family: Architecture, layers: int) -> Content:
    """The part, its tensors and the head; raises `Misfit` with every reason."""
    kind = str(config["peft_type"])
    reasons = [f"{key} is no key of PEFT" for key in stored if not key.startswith(ROOT)]
    below = {key.removeprefix(ROOT): tensor for key, tensor in stored.items()}
    prefixed = any(key.startswith(f"{family.prefix}.") for key in below)
    known = {(f"{family.prefix}.{p}" if prefixed else p): a for p, a in modules(family, layers).items()}
    tensors: dict[str, Tensor] = {}
    found: dict[str, str] = {}  # path -> address
    rest: dict[str, Tensor] = {}
    for key, tensor in below.items():
        match = _ADAPTER_KEY.fullmatch(key)
        if match is None:
            rest[key] = tensor
            continue
        path, parameter = match["path"], _PARAMETERS[kind].get(match["parameter"])
        if parameter is None:
            reasons.append(f"{key} belongs to a feature that is not served yet")
        elif path not in known:
            reasons.append(f"the module {path} is not one that is served, or this backbone does not have it")
        else:
            found[path] = str(known[path])
            tensors[f"{known[path]}/{parameter}"] = tensor
    wanted = {path for path in known if targeted(config, path)}
    # The pooler is optional: the models of some families leave it out.
    missing = sorted(path for path in wanted - set(found) if known[path].layer is not None)
    reasons += [f"the checkpoint lacks {path}, which target_modules names" for path in missing]
    reasons += [f"{path} is adapted, but target_modules does not name it" for path in sorted(set(found) - wanted)]
    describe = _lora_site if kind == "LORA" else _ia3_site
    sites = {address: describe(config, path, address, tensors, reasons) for path, address in found.items()}
    head = _head(config, rest, family.model_type, reasons)
    if not found and not reasons:
        reasons.append("the checkpoint adapts no module at all")
    if reasons:
        raise Misfit(reasons)
    flat = {name: t.reshape(-1) if name.endswith("/scale") else t for name, t in tensors.items()}
    return Content(PartSpec(kind.lower(), {"sites": sites}), flat, head, prefixed)


def _ia3_site(
    config: Mapping[str, Any], path: str, address: str, tensors: Mapping[str, Tensor], reasons: list[str]
) -> dict[str, Any]:
    inner = is_feed_forward(config, path)
    shape = list(tensors[f"{address}/scale"].shape)
    if len(shape) != 2 or shape[0 if inner else 1] != 1:
        reasons.append(f"{path}.ia3_l has the shape {shape}, which feedforward_modules contradicts")
    return {"at": "input" if inner else "output", "scaling": 1.0}


def _lora_site(
    config: Mapping[str, Any], path: str, address: str, tensors: Mapping[str, Tensor], reasons: list[str]
) -> dict[str, Any]:
    down, up = tensors.get(f"{address}/lora_A"), tensors.get(f"{address}/lora_B")
    if down is None or up is None or down.dim() != 2:
        reasons.append(f"{path} has only one of lora_A and lora_B")
        return {}
    bias = f"{address}/lora_bias" in tensors
    if bias != bool(config.get("lora_bias")):
        reasons.append(f"{path}: lora_bias is {config.get('lora_bias')}, but the checkpoint says otherwise")
    dora = f"{address}/magnitude" in tensors
    if dora != bool(config.get("use_dora")):
        reasons.append(f"{path}: use_dora is {config.get('use_dora')}, but the checkpoint says otherwise")
    rank = int(down.shape[0])
    declared = of_pattern(config.get("rank_pattern"), path, config.get("r"))
    alpha = of_pattern(config.get("alpha_pattern"), path, config.get("lora_alpha"))
    if declared != rank:
        reasons.append(f"{path} has the rank {rank}, but adapter_config.json says {declared}")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        reasons.append(f"lora_alpha must be a number, not {alpha!r}")
        return {}
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return {"rank": rank, "scaling": scaling, "bias": bias} | ({"dora": "peft"} if dora else {})


def _head(config: Mapping[str, Any], rest: Mapping[str, Tensor], model_type: str, reasons: list[str]) -> Head | None:
    task = _TASKS[config.get("task_type")]
    try:
        if task is None and rest and config.get("task_type") is None:
            mapping = config.get("auto_mapping") or {}
            task = static_heads.task_of(str(mapping.get("base_model_class") or ""))
        if task is not None:
            return static_heads.read(rest, model_type, task)
    except Misfit as misfit:
        reasons += misfit.reasons
        return None
    reasons += [f"{key} belongs to no part that is served" for key in sorted(rest)]
    return None


def _reject_unserved(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if not isinstance(kind, str) or kind not in _PARAMETERS:
        raise Misfit([f"PEFT's method {kind!r} is not served yet"])
    reasons = [f"{what} is not served yet" for key, what in _UNSERVED.items() if config.get(key)]
    unknown = sorted(key for key, value in config.items() if value and key not in _KNOWN and key not in _UNSERVED)
    reasons += [f"the setting {key!r} is not known: it may change what the adapter computes" for key in unknown]
    if config.get("bias", "none") != "none":
        reasons.append(f"bias={config['bias']!r} changes biases of the backbone, which is not served yet")
    if config.get("init_lora_weights", True) not in _PLAIN_STARTS:
        reasons.append(f"init_lora_weights={config['init_lora_weights']!r} changes weights of the backbone")
    for what, form, keys in _FORMS:
        wrong = [key for key in keys if config.get(key) is not None and not isinstance(config[key], form)]
        reasons += [f"{key} must be {what}, not {config[key]!r}" for key in wrong]
    task = config.get("task_type")
    if not isinstance(task, str | None) or task not in _TASKS:
        reasons.append(f"the task {config['task_type']!r} is not served yet")
    if reasons:
        raise Misfit(reasons)


def _agrees(config: Mapping[str, Any], stored: Mapping[str, Tensor], family: Architecture, manifest: Manifest) -> bool:
    """Whether the configuration that the package came with still says what its parts say."""
    try:
        return (interpret(config, stored, family, manifest.requires.layers).part,) == manifest.parts
    except (Misfit, KeyError):
        return False
