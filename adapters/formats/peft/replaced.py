"""Parameters of the backbone that a folder holds whole: PEFT trains some in their place, beside any tuner's own.

`bias="all"` saves every bias of the model, the head's frozen one among them; `modules_to_save` names whole modules.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.tokens import write_beside
from adapters.formats.peft.tuner import Found
from adapters.manifest import PartSpec
from adapters.methods.norms import PARAMETERS
from adapters.methods.word_rows import WORDS
from adapters.weights import Package

METHODS = ("norms", "biases", "word_rows")  # what may stand beside a tuner's part
_HEADS = re.compile(r"(?P<module>.+)\.(?P<kind>original_module|modules_to_save)\.(?P<parameter>.+)")


@dataclass
class _Taken:
    norms: dict[str, dict[str, bool]] = field(default_factory=dict)
    biases: dict[str, dict[str, bool]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    table: bool = False

    def parts(self) -> tuple[PartSpec, ...]:
        held = (("norms", {"sites": self.norms}, self.norms), ("biases", {"sites": self.biases}, self.biases))
        found = [PartSpec(method, config) for method, config, any_of in held if any_of]
        return (*found, *([PartSpec("word_rows", {"tokens": None})] if self.table else []))


def read(config: Mapping[str, Any], rest: Mapping[str, Tensor], host: Host, reasons: list[str]) -> Found:
    """Parts out of what a tuner left over, for what the configuration explains; the rest stays for the head."""
    norms, maps = host.norms(), host.modules()
    taken, left = _Taken(), dict[str, Tensor]()
    for key, tensor in _without_copies(config, rest, reasons).items():
        path, _, parameter = key.rpartition(".")
        explained = _saved_whole(config, path) or (config.get("bias") == "all" and parameter == "bias")
        if explained and path in norms and parameter in PARAMETERS:
            taken.norms.setdefault(str(norms[path]), {})[parameter] = True
            taken.tensors[f"{norms[path]}/{parameter}"] = tensor
        elif explained and path in maps and parameter == "bias" and not _saved_whole(config, path):
            taken.biases[str(maps[path])] = {}
            taken.tensors[f"{maps[path]}/bias"] = tensor
        elif explained and path == host.words and parameter == "weight":
            taken.table = True
            taken.tensors[f"{WORDS}/rows"] = tensor
        else:
            left[key] = tensor
    return Found(taken.parts(), taken.tensors, left)


def write(parts: Sequence[PartSpec], package: Package, host: Host) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and settings of the parts beside a tuner's own; raises `Misfit`."""
    stored: dict[str, Tensor] = {}
    config: dict[str, Any] = {}
    whole: list[str] = []
    for part in parts:
        if part.method not in METHODS:
            raise Misfit([f"PEFT's folders hold one tuner, and no {part.method} beside it"])
        if part.method == "word_rows":
            rows, said = write_beside(part, package, host)
            stored |= rows
            config |= said
            whole += [host.words] if part.config["tokens"] is None else []
            continue
        for site, held in part.config["sites"].items():
            address = Address.parse(site)
            norm = part.method == "norms"
            path = host.path(host.family.own_norm_path(address)) if norm else host.whole_path(address)
            names = [name for name in PARAMETERS if held.get(name)] if norm else ["bias"]
            stored |= {f"{ROOT}{path}.{name}": package.tensors[f"{site}/{name}"] for name in names}
            if names == ["bias"]:
                config["bias"] = "all"
            else:
                whole.append(path)
    return stored, config | ({"modules_to_save": whole} if whole else {})


def _saved_whole(config: Mapping[str, Any], path: str) -> bool:
    """Whether `modules_to_save` names the module, or one that it is a part of."""
    names = config.get("modules_to_save") or ()
    return any(re.match(rf"(^|.*\.){re.escape(str(name))}($|\..*)", path) for name in names)


def _without_copies(config: Mapping[str, Any], rest: Mapping[str, Tensor], reasons: list[str]) -> dict[str, Tensor]:
    """What is left without the copies that `bias="all"` saves of a head under the names of its wrapper.

    `modules_to_save` is the trained bias once more. `original_module` is the bias that the head had before: nothing
    that the folder computes reads it.
    """
    if config.get("bias") != "all":
        return dict(rest)
    left = dict[str, Tensor]()
    for key, tensor in rest.items():
        match = _HEADS.fullmatch(key)
        if match is None:
            left[key] = tensor
        elif match["kind"] == "modules_to_save":
            # In a module of several maps the adapter's own name stands before the parameter's path.
            spellings = (match["parameter"], match["parameter"].partition(".")[2])
            twin = next((rest[k] for name in spellings if (k := f"{match['module']}.{name}") in rest), None)
            if twin is None or not torch.equal(twin, tensor):
                reasons.append(f"{key} differs from the {match['module']} that was saved")
    return left
