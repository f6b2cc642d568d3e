"""PEFT's (IA)3: `ia3_l` is [out, 1] where it scales a map's output, [1, in] where it scales its input."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from adapters.errors import Misfit
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.linear import adapted
from adapters.formats.peft.modules import is_feed_forward
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.formats.peft.whole import modules
from adapters.manifest import PartSpec
from adapters.weights import Package


@dataclass(frozen=True)
class Ia3:
    """The tuner."""

    methods: tuple[str, ...] = ("ia3",)
    settings: frozenset[str] = frozenset(("feedforward_modules", "fan_in_fan_out", "init_ia3_weights"))

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`."""
        modules = config.get("feedforward_modules")
        if modules is None or isinstance(modules, list | str):
            return []
        return [f"feedforward_modules must be a list or a text, not {modules!r}"]

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        found = adapted(saved, {"ia3_l": "scale"}, "ia3_", reasons)
        sites: dict[str, Any] = {}
        for path, address in found.paths.items():
            inner = is_feed_forward(saved.config, path)
            shape = list(found.tensors[f"{address}/scale"].shape)
            if len(shape) != 2 or shape[0 if inner else 1] != 1:
                reasons.append(f"{path}.ia3_l has the shape {shape}, which feedforward_modules contradicts")
            sites[address] = {"at": "input" if inner else "output", "scaling": 1.0}
        tensors = {name: tensor.reshape(-1) for name, tensor in found.tensors.items()}
        return Found((PartSpec("ia3", {"sites": sites}),), tensors, found.rest)

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`; PEFT's vectors have no factor of their own, so that a scaling goes into them."""
        sites = package.manifest.parts[0].config["sites"]
        if any(held.get("gated") for held in sites.values()):
            raise Misfit(["PEFT has no gates"])
        stored: dict[str, Tensor] = {}
        found = modules(sites, package.tensors, host)
        for module in found:
            scale, scaling = module.tensors["scale"], module.settings["scaling"]
            scale = scale if scaling == 1 else scale * scaling
            stored[f"{ROOT}{module.path}.ia3_l"] = scale.unsqueeze(0 if _inner(module.settings) else 1)
        config = {
            "peft_type": "IA3",
            "target_modules": sorted(module.path for module in found),
            "feedforward_modules": sorted(module.path for module in found if _inner(module.settings)),
        }
        return Written(stored, config)


IA3 = Ia3()


def _inner(held: Mapping[str, Any]) -> bool:
    return bool(held.get("at", "output") == "input")
