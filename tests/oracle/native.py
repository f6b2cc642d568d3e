"""Adapters that were made here: every preset in turn, written in a library's format and, for us, as a native package.

What is judged is the native package against what the library computes from the folder.
"""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapters.errors import AdapterError
from adapters.formats import native
from adapters.methods.presets import PRESETS
from adapters.model import AdapterModel
from tests.conformance.report import CaseOutcome
from tests.oracle import writing

NOISE = 0.05
# Sizes that fit small backbones, by preset; the others have their defaults.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "adapterplus": {"reduction_factor": 8},
    "compacter": {"reduction_factor": 2},
    "compacter++": {"reduction_factor": 2},
}
_FIXED = (".original", ".base", "vera/lora_A", "vera/lora_B")  # what training can not move freely
PEFT_HAS = ("lora", "dora", "ia3", "prompt_tuning", "prefix_tuning_flat")
NAME = "a"


def make(
    library: str, hosts: Sequence[Path], written: Path, ours: Path, seed: int
) -> tuple[list[str], dict[str, CaseOutcome]]:
    """(cases, refusals). `hosts`: cases whose backbones and inputs are used in turn; each preset once."""
    names: list[str] = []
    refused: dict[str, CaseOutcome] = {}
    for number, preset in enumerate(PRESETS if library == "adapterhub" else PEFT_HAS):
        name, host = f"native-{number}-{preset}", hosts[number % len(hosts)]
        try:
            _make(library, preset, host, written / library / name, ours / library / name, seed + number)
            names.append(name)
        except AdapterError as error:
            refused[name] = CaseOutcome.refused(f"{library}/{name}", error)
    return names, refused


def usable(case: Path) -> bool:
    """Whether a case's backbone reads rows of text, for which the library has classes of its own."""
    said = json.loads((case / writing.CASE).read_text())
    interfaced = said["library"] == "adapterhub" and not said["heads"]
    texts = bool(said["inputs_kind"] == "texts") and not interfaced and "deberta" not in said["method"]
    if str(said.get("model_class")) in ("T5ForTokenClassification", "MT5ForTokenClassification"):
        return False  # an encoder alone, whose inputs are none for the whole model
    return texts and (said["library"] == "peft" or not said.get("decoder_inputs") or _whole(case, said))


def _whole(case: Path, said: Mapping[str, Any]) -> bool:
    """Whether a decoder's rows are as long as the encoder's, where the library's classification looks for their ends."""
    stored = load_file(case / writing.EXPECTED)
    return bool(stored["input.attention_mask"].all()) and stored["input.input_ids"].shape[1] == len(
        said["decoder_inputs"][0]
    )


def _make(library: str, preset: str, host: Path, written: Path, ours: Path, seed: int) -> None:
    said = json.loads((host / writing.CASE).read_text())
    backbone = said["backbone"]
    model = AdapterModel.from_pretrained(written.parent.parent / "backbones" / backbone)
    model.add_adapter(NAME, preset, **SIZES.get(preset, {}))
    headed = library == "adapterhub"
    if headed:
        _add_head(model, random.Random(seed))
    _stir(model, seed)
    package = model.adapter_package(NAME)
    writing.write(package, library, written / "adapters" / NAME, NAME)
    ours.mkdir(parents=True)
    (ours / "package.safetensors").write_bytes(native.write(package))
    given = _even(load_file(host / writing.EXPECTED))
    heads = [{"name": NAME, "type": "classification"}] if headed else []
    case = {
        "library": library,
        "backbone": backbone,
        "method": f"{model.backbone.profile.geometry.model_type} {preset}",
        "composition": {"stack": [NAME]},
        "head": heads[0] if headed else None,
        "fusions": [],
        "embedding": None,
        "inputs": [""] * len(given["input.input_ids"]),
        "inputs_kind": "texts",
        "decoder_inputs": said.get("decoder_inputs"),
        "task_type": "FEATURE_EXTRACTION",
        "atol": 1e-5,
        "rtol": 1e-4,
        "expected": {"file": writing.EXPECTED},
        "seed": seed,
    }
    for folder, path in ((written, f"adapters/{NAME}"), (ours, "package.safetensors")):
        held = {"adapters": [{"name": NAME, "path": path}], "heads": [{**head, "path": path} for head in heads]}
        (folder / writing.CASE).write_text(json.dumps({**case, **held}))
        save_file(given, folder / writing.EXPECTED)


def _add_head(model: AdapterModel, rng: random.Random) -> None:
    """A head of the adapter's name; classification has most settings, the drawn cases hold the other kinds."""
    layers, activation = rng.randint(1, 3), rng.choice(("tanh", "relu", "gelu"))
    model.add_classification_head(NAME, rng.randint(2, 5), layers=layers, activation_function=activation)


def _stir(model: AdapterModel, seed: int) -> None:
    """Move what training can move: fresh adapters mostly change nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for shelf in (model.adapters, *((model.heads,) if NAME in model.heads else ())):
            for key, tensor in shelf[NAME].tensors().items():
                if tensor.is_floating_point() and not key.endswith(_FIXED):
                    tensor.add_(NOISE * torch.randn(tensor.shape, generator=generator))


def _even(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """A case's inputs, as long as the shortest row: gates average over padding in the library."""
    least = int(stored["input.attention_mask"].sum(1).min())
    return {key: tensor[:, :least].contiguous() for key, tensor in stored.items() if key.startswith("input.")}
