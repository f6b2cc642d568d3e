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
from adapters.formats.peft import heads
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.tokens import write_beside
from adapters.formats.peft.tuner import Found
from adapters.manifest import PartSpec
from adapters.methods.norms import PARAMETERS
from adapters.methods.tables import ROWS
from adapters.weights import Package

WRAPPED = ".base_layer"  # behind the path of a map that a tuner adapts
METHODS = ("norms", "biases", "maps", "word_rows", "tables")  # what may stand beside a tuner's part
_HEADS = re.compile(r"(?P<module>.+)\.(?P<kind>original_module|modules_to_save)\.(?P<parameter>.+)")


@dataclass
class _Taken:
    norms: dict[str, dict[str, bool]] = field(default_factory=dict)
    biases: dict[str, dict[str, bool]] = field(default_factory=dict)
    maps: dict[str, dict[str, bool]] = field(default_factory=dict)
    tables: dict[str, dict[str, bool]] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    table: bool = False

    def of_map(self, site: str, parameter: str, tensor: Tensor) -> None:
        held = self.maps.setdefault(site, {})
        if parameter == "bias":
            held["bias"] = True
        self.tensors[f"{site}/{parameter}"] = tensor

    def parts(self) -> tuple[PartSpec, ...]:
        held = {"norms": self.norms, "biases": self.biases, "maps": self.maps, "tables": self.tables}
        found = [PartSpec(method, {"sites": sites}) for method, sites in held.items() if sites]
        return (*found, *([PartSpec("word_rows", {"tokens": None})] if self.table else []))


def read(config: Mapping[str, Any], rest: Mapping[str, Tensor], host: Host, reasons: list[str]) -> Found:
    """Parts out of what a tuner left over, for what the configuration explains; the rest stays for the head."""
    norms, maps, tables, biased = host.norms(), host.modules(), host.tables(), host.biased()
    taken, left = _Taken(), dict[str, Tensor]()
    held = _without_copies(config, rest, reasons)
    for key, tensor in held.items():
        inside, _, parameter = key.rpartition(".")
        path = inside.removesuffix(WRAPPED)
        whole = _saved_whole(config, path)
        explained = whole or (parameter == "bias" and (config.get("bias") == "all" or path != inside))
        if explained and path in norms and parameter in PARAMETERS:
            taken.norms.setdefault(str(norms[path]), {})[parameter] = True
            taken.tensors[f"{norms[path]}/{parameter}"] = tensor
        elif whole and path in maps and parameter in PARAMETERS and not heads.has(config, path, host.family):
            taken.of_map(str(maps[path]), parameter, _turned(tensor, host))
            if f"{path}.weight" not in held:
                reasons.append(f"the checkpoint lacks {path}.weight, which modules_to_save names")
        elif explained and path in biased and parameter == "bias" and not whole:
            taken.biases[str(biased[path])] = {}
            taken.tensors[f"{biased[path]}/bias"] = tensor
        elif whole and path == host.words and path not in host.word_tables and parameter == "weight":
            continue  # a module that nothing reads
        elif whole and path in host.word_tables and parameter == "weight":
            taken.table = True
            taken.tensors[f"{host.word_tables[path]}/{ROWS}"] = tensor
            if host.encoder_alone:
                reasons.append(
                    f"{key}: a whole table of an encoder alone is not served: save the model with its decoder"
                )
        elif whole and path in tables and parameter == "weight":
            taken.tables[str(tables[path])] = {}
            taken.tensors[f"{tables[path]}/{ROWS}"] = tensor
        elif explained and host.prefixed and path.startswith(host.prefix) and not heads.has(config, path, host.family):
            reasons.append(f"{key} is a part of the backbone that no adapter can have for its own: train without it")
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
            whole += host.word_tables if part.config["tokens"] is None else []
            continue
        if part.method == "tables":
            for path, address in host.tables().items():
                if str(address) in part.config["sites"]:
                    stored[f"{ROOT}{path}.weight"] = package.tensors[f"{address}/{ROWS}"]
                    whole.append(path)
            continue
        for site, held in part.config["sites"].items():
            address = Address.parse(site)
            norm = part.method == "norms"
            path = host.path(host.family.own_norm_path(address)) if norm else host.whole_path(address)
            names = [name for name in PARAMETERS if _said(part, held, name)]
            for name in names:
                tensor = package.tensors[f"{site}/{name}"]
                stored[f"{ROOT}{path}.{name}"] = tensor if norm else _turned(tensor, host)
            if names == ["bias"]:
                config["bias"] = "all"
            else:
                whole.append(path)
    return stored, config | ({"modules_to_save": whole} if whole else {})


def _said(part: PartSpec, held: Mapping[str, Any], name: str) -> bool:
    """Whether a part holds a parameter of a site in the place of the frozen one."""
    own = {"biases": "bias", "maps": "weight"}.get(part.method)
    return name == own or bool(held.get(name))


def _turned(tensor: Tensor, host: Host) -> Tensor:
    """A parameter of a linear map as the family's checkpoints hold it, and back: some hold matrices as [in, out]."""
    return tensor.T.contiguous() if host.family.turned and tensor.dim() > 1 else tensor


def _saved_whole(config: Mapping[str, Any], path: str) -> bool:
    """Whether `modules_to_save` names the module, or one that it is a part of: PEFT takes every path that ends so.

    A name need not begin where a module's does: `norm` names `input_layernorm` as well.
    """
    steps = f"{ROOT}{path}".split(".")
    owners = [".".join(steps[: end + 1]) for end in range(len(steps))]
    return any(owner.endswith(str(name)) for name in config.get("modules_to_save") or () for owner in owners)


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
