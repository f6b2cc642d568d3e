"""The head over the vocabulary that a generating backbone's own checkpoint has: what generates where no adapter brings one."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from adapters.architectures.profile import BackboneProfile
from adapters.errors import Misfit
from adapters.formats import files, static_classes, static_heads
from adapters.manifest import Manifest, Provenance
from adapters.requires import Requires
from adapters.weights import Package

KEY = "lm_head.weight"


def read(folder: Path, profile: BackboneProfile) -> Package:
    """The head as a package; the word vectors themselves where the configuration ties them to it. Raises `Misfit`."""
    geometry = profile.geometry
    family = geometry.architecture
    if not (family.causal or family.decoder):
        raise Misfit([f"{family.model_type} has no head over its vocabulary: name a head"])
    config = files.read_json(folder / "config.json")
    tied = config.get("tie_word_embeddings", family.defaults.get("tie_word_embeddings", False))
    task = static_classes.SEQ2SEQ if family.decoder else static_classes.CAUSAL
    words = f"{family.words}.weight"
    own = (words, f"{family.prefix}.{words}") if tied else (KEY,)
    # transformers 5 calls every T5 tied; one that is not has a head of its own in its checkpoint.
    name, weight = _tensor(folder, own if family.decoder is None or not tied else (KEY, *own))
    head = static_heads.read({KEY: weight}, geometry.model_type, task, static_heads.own_settings(geometry))
    requires = Requires.of(geometry)
    return Package(
        Manifest(
            "head",
            requires,
            head=replace(head.spec, tied=bool(tied) and (name != KEY or _holds(folder, own, weight))),
            provenance=Provenance("transformers", "", profile.id),
        ),
        head.tensors,
    )


def _holds(folder: Path, names: tuple[str, ...], weight: Tensor) -> bool:
    """Whether a checkpoint holds a tensor under one of the names once more."""
    try:
        return torch.equal(_tensor(folder, names)[1], weight)
    except Misfit:
        return False


def _tensor(folder: Path, names: tuple[str, ...]) -> tuple[str, Tensor]:
    """The first tensor of a checkpoint under one of the names, and which."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            held = set(file.keys())
            for name in names:
                if name in held:
                    tensor: Tensor = file.get_tensor(name)
                    return name, tensor
    raise Misfit([f"the checkpoint in {folder.name} holds no {names[0]}: the backbone has no head over its vocabulary"])
