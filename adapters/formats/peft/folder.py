"""Reading and writing a folder of PEFT: one tuner, with or without the head that it was trained with.

The tensors say what is adapted; the configuration must agree with them, module by module, or the folder is refused.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.families import ARCHITECTURES
from adapters.architectures.profile import BackboneProfile
from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats import files
from adapters.formats.labels import Head, relabel
from adapters.formats.peft import heads, replaced, replication
from adapters.formats.peft.host import ROOT, Host, host_of
from adapters.formats.peft.lora import LORA
from adapters.formats.peft.lora_variants import plain
from adapters.formats.peft.settings import tuner_for
from adapters.formats.peft.table import tuner_of
from adapters.formats.peft.tasks import Task, task_of
from adapters.formats.peft.tokens import tied_head, tied_words
from adapters.formats.peft.tuner import Saved
from adapters.formats.static_classes import QUESTION, TOKEN
from adapters.formats.static_heads import OwnSettings, own_settings, settings_of
from adapters.manifest import Manifest, PartSpec, Provenance
from adapters.methods.biases import BESIDE
from adapters.requires import Requires
from adapters.weights import Package

LIBRARY = "peft"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
WRITTEN_VERSION = "0.21.2"  # whose layout this is


@dataclass(frozen=True)
class Content:
    """What a folder's configuration and tensors say together."""

    parts: tuple[PartSpec, ...]
    tensors: Mapping[str, Tensor]
    head: Head | None
    prefixed: bool  # keys hold the family's prefix: it was saved from a model with a head
    drawn: frozenset[str]  # what the folder does not hold of the head, and a seed gave
    task: Task


def read(
    folder: Path,
    profile: BackboneProfile,
    *,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    head_seed: int | None = None,
    task_id: int | None = None,
) -> Package:
    """Read a folder for a backbone; without `labels` they are LABEL_i and `manifest.source["warnings"]` says so.

    `head_seed`: what PEFT left out of the head is drawn as transformers draws it under this seed (see `peft.drawn`).
    `task_id`: which task of a folder of several the package is for (see `peft.tasks`); written again it holds them all.
    Raises `Misfit` with every reason, `UnsafeFile` where weights are pickles, `InvalidPackage` where files are broken.
    """
    said = files.read_json(folder / CONFIG)
    geometry = profile.geometry
    if geometry.model_type not in ARCHITECTURES:
        raise Misfit([f"PEFT's adapters for {geometry.model_type!r} are not served yet"])
    family = geometry.architecture
    tuner_for(said)  # what is refused whatever the weights are, in whichever form
    config, stored = plain(said, files.read_tensors(folder, WEIGHTS))
    content = interpret(config, stored, family, geometry.layers, head_seed, task_id, own_settings(geometry))
    head, empty = content.head, {key: list(tensor.shape) for key, tensor in stored.items() if not tensor.numel()}
    if head is not None and head.spec.pooling == "pooler" and not profile.has_pooler:
        raise Misfit(["the head needs the backbone's pooler, which its checkpoint does not hold"])
    manifest = Manifest(
        kind="adapter",
        requires=Requires.of(geometry),
        parts=content.parts,
        head=None if head is None else head.spec,
        provenance=Provenance(
            LIBRARY, str(config.get("peft_version") or ""), str(config.get("base_model_name_or_path") or "")
        ),
        route=replication.route_of(config, geometry.layers),
        source={
            "adapter_config": config,
            "prefixed": content.prefixed,
            "warnings": [*(head.warnings if head is not None else ()), *map(_warned, sorted(content.drawn))],
        }
        | ({"head_seed": head_seed} if content.drawn else {})
        | ({"task_id": content.task.number} if content.task.said else {})
        | ({"empty": empty} if empty else {}),
    )
    tensors = {**content.tensors, **({} if head is None else head.tensors)}
    return relabel(Package(manifest, tensors), labels, problem_type)


def write(package: Package, folder: Path) -> None:
    """Write PEFT's layout; raises `Misfit` for what PEFT can not hold. PEFT's folders do not name labels."""
    manifest = package.manifest
    family = ARCHITECTURES.get(manifest.requires.model_type)
    if family is None or manifest.kind != "adapter" or not manifest.parts:
        raise Misfit(["PEFT's folders hold an adapter of a known backbone family, with or without its head"])
    family = family.split(manifest.requires.encoder_layers, gated=manifest.requires.gated)
    tuner = tuner_of(manifest.parts[0].method)
    if tuner is None:
        raise Misfit([f"PEFT has no {manifest.parts[0].method}"])
    made = manifest.provenance.library == LIBRARY
    prefixed = bool(manifest.source.get("prefixed")) if made else manifest.head is not None
    route = manifest.route
    if route is not None and tuner is not LORA:
        raise Misfit([f"PEFT replicates layers for LoRA alone, not for {manifest.parts[0].method}"])
    questions = manifest.head is not None and manifest.head.type == "question_answering"
    host = Host(family, manifest.requires.layers if route is None else len(route), prefixed, questions)
    written = tuner.write(package, host)
    beside, settings = replaced.write(manifest.parts[1:], package, host)
    beside = _under(_adapted(manifest.parts[0], written.tensors, host), beside)
    head, said = heads.write(package, written.root)
    empty = manifest.source.get("empty", {}) if made else {}
    stored = {
        **written.tensors,
        **beside,
        **head,
        **{key: torch.zeros(shape) for key, shape in empty.items()},
    }
    config = manifest.source.get("adapter_config")
    whole = made and "head_seed" not in manifest.source  # else the configuration names too little of the head
    if not whole or not isinstance(config, Mapping) or not _agrees(config, stored, family, manifest):
        if written.config is None:
            raise Misfit([f"{manifest.parts[0].method} is written with the configuration that it was read with alone"])
        config = {
            "base_model_name_or_path": manifest.provenance.source_id or None,
            "peft_version": WRITTEN_VERSION,
            "inference_mode": True,
            **written.config,
            **settings,
            **said,
            **({} if route is None else {replication.SETTING: replication.ranges_of(route)}),
            "modules_to_save": [*(said["modules_to_save"] or ()), *settings.get("modules_to_save", ())] or None,
        }
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / CONFIG, config)
    files.write_tensors(folder / WEIGHTS, stored)


def interpret(
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    family: Architecture,
    layers: int,
    head_seed: int | None = None,
    task_id: int | None = None,
    own: OwnSettings | None = None,
) -> Content:
    """The parts, their tensors and the head, which may take settings of its backbone; raises `Misfit` with every reason."""
    reasons: list[str] = []
    route = replication.route_of(config, layers)
    questions, tagging = (heads.task_in(config) == task for task in (QUESTION, TOKEN))
    host = host_of(stored, family, layers if route is None else len(route), questions=questions, tagging=tagging)
    task = task_of(config, task_id)
    found = tuner_for(config).read(Saved(config, stored, host, task), reasons)
    beside = replaced.read(config, found.rest, host, reasons)
    parts = heads.left_out(config, beside.rest, family.model_type, layers, head_seed)
    head = heads.read(config, {**beside.rest, **parts}, family.model_type, reasons, own)
    if own is not None and own.tied:
        reasons += tied_words(config, stored, host)
        reasons += tied_head(None if head is None else head.spec, (*found.parts, *beside.parts))
    if reasons:
        raise Misfit(list(dict.fromkeys(reasons)))
    tensors = {**found.tensors, **beside.tensors}
    return Content((*found.parts, *beside.parts), tensors, head, host.prefixed, frozenset(parts), task)


def _adapted(part: PartSpec, tensors: Mapping[str, Tensor], host: Host) -> set[str]:
    """The paths that a tuner's keys begin with, and those of its maps: some tuners store nothing of each."""
    found = {".".join(key.split(".")[:end]) for key in tensors for end in range(1, key.count(".") + 1)}
    maps = part.config["sites"] if part.method in BESIDE else ()
    return found | {f"{ROOT}{host.whole_path(Address.parse(site))}" for site in maps}


def _under(adapted: Container[str], beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Biases of maps that a tuner adapts, under the name that they have inside of its wrapper."""
    paths = {key: key.removesuffix(".bias") for key in beside if key.endswith(".bias")}
    inside = {key: f"{path}{replaced.WRAPPED}.bias" for key, path in paths.items() if path in adapted}
    return {inside.get(key, key): tensor for key, tensor in beside.items()}


def _warned(part: str) -> str:
    return f"{part} is in no file: it was drawn with the given head_seed"


def _agrees(config: Mapping[str, Any], stored: Mapping[str, Tensor], family: Architecture, manifest: Manifest) -> bool:
    """Whether the configuration that the package came with still says what its parts say."""
    try:
        route = replication.route_of(config, manifest.requires.layers)
        task_id = manifest.source.get("task_id")
        own = None if manifest.head is None else settings_of(manifest.head)
        parts = interpret(config, stored, family, manifest.requires.layers, task_id=task_id, own=own).parts
        return (route, parts) == (manifest.route, manifest.parts)
    except (Misfit, KeyError):
        return False
