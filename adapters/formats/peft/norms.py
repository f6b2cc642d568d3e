"""PEFT's LN tuning: `ln_tuning_layers` is a copy of the norm that was trained in its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapters.architectures.sites import Address
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.modules import targeted
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.manifest import PartSpec
from adapters.methods.norms import PARAMETERS
from adapters.weights import Package

_KEY = re.compile(r"(?P<path>.+)\.ln_tuning_layers\.(?P<parameter>.+)")


@dataclass(frozen=True)
class Norms:
    """The tuner."""

    methods: tuple[str, ...] = ("norms",)
    settings: frozenset[str] = frozenset()

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        return []

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        known = saved.host.norms()
        sites: dict[str, dict[str, bool]] = {}
        tensors: dict[str, Tensor] = {}
        rest: dict[str, Tensor] = {}
        for key, tensor in saved.tensors.items():
            below = key.removeprefix(ROOT)
            match = _KEY.fullmatch(below)
            if match is None:
                rest[below] = tensor
                continue
            path, parameter = match["path"], match["parameter"]
            if path not in known or parameter not in PARAMETERS:
                reasons.append(f"{below} belongs to no norm that is served")
            else:
                sites.setdefault(str(known[path]), {})[parameter] = True
                tensors[f"{known[path]}/{parameter}"] = tensor
        wanted = {str(address): path for path, address in known.items() if targeted(saved.config, path)}
        reasons += [f"the checkpoint lacks {path}, which target_modules names" for a, path in wanted.items() if a not in sites]  # fmt: skip
        paths = {str(address): path for path, address in known.items()}
        reasons += [f"{paths[a]} is adapted, but target_modules does not name it" for a in sites if a not in wanted]
        return Found((PartSpec("norms", {"sites": sites}),), tensors, rest)

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`."""
        stored: dict[str, Tensor] = {}
        paths: list[str] = []
        for site, held in package.manifest.parts[0].config["sites"].items():
            path = host.path(host.family.own_norm_path(Address.parse(site)))
            paths.append(path)
            for name in PARAMETERS:
                if held.get(name):
                    stored[f"{ROOT}{path}.ln_tuning_layers.{name}"] = package.tensors[f"{site}/{name}"]
        return Written(stored, {"peft_type": "LN_TUNING", "target_modules": sorted(paths)})


NORMS = Norms()
