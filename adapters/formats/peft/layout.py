"""Tuners whose tensors a package holds as PEFT stores them: where PEFT says each setting and each tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.linear import adapted
from adapters.formats.peft.modules import of_pattern
from adapters.formats.peft.named import named
from adapters.formats.peft.tuner import Found, Saved, Written
from adapters.manifest import PartSpec
from adapters.weights import Package

SHARED_ROOT = "base_model."  # before what all modules share

Held = Mapping[str, Tensor]  # the tensors of one site, under native names


@dataclass(frozen=True)
class Member:
    """Where a configuration says a setting: its member, PEFT's default, and the member with values by pattern.

    `below`: how patterns match, see `of_pattern`.
    """

    name: str
    default: Any
    pattern: str | None = None
    below: bool = False

    def of(self, config: Mapping[str, Any], path: str) -> Any:
        """The value for the module at a path."""
        value = config.get(self.name)
        value = self.default if value is None else value
        return value if self.pattern is None else of_pattern(config.get(self.pattern), path, value, below=self.below)


def _nothing(config: Mapping[str, Any], held: Held) -> dict[str, Any]:
    return {}


def _anywhere(config: Mapping[str, Any], path: str, index: int, count: int) -> dict[str, Any]:
    return {}


def _never(config: Mapping[str, Any]) -> bool:
    return False


def _floating(name: str, said: Mapping[str, Any]) -> torch.dtype | None:
    return None


@dataclass(frozen=True)
class Layout:
    """One tuner (see `Tuner`). What is stored as integers is held as floating numbers.

    `stem`: how the names of its tensors begin. `parameters`, `shared`: PEFT's names -> native ones; of `copied` every
    module holds a copy of its own beside the shared one. `members`: settings of a site -> where they are said;
    `derived` adds those that follow from the configuration and a site's tensors. `silent`: further members, which say
    nothing about what a trained adapter computes. `integer`: PEFT's type of a tensor of integers, by its name and the
    site's settings; None for floating numbers. `only`: members whose other values PEFT's model alone can compute.
    `lists`: as `shared`, for names that numbers or words follow. `placed` adds the settings that follow from a module's
    path and, where the configuration is `ordered`, from its place among all that are adapted, in the order of the model.
    `unnamed`: whether a configuration's modules hold no tensors, so that it alone says which they are.
    """

    method: str
    stem: str
    parameters: Mapping[str, str]
    members: Mapping[str, Member]
    silent: frozenset[str] = frozenset()
    shared: Mapping[str, str] = field(default_factory=dict)
    copied: tuple[str, ...] = ()
    derived: Callable[[Mapping[str, Any], Held], dict[str, Any]] = _nothing
    derived_from: tuple[str, ...] = ()
    integer: Callable[[str, Mapping[str, Any]], torch.dtype | None] = _floating
    only: Mapping[str, Any] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    placed: Callable[[Mapping[str, Any], str, int, int], dict[str, Any]] = _anywhere
    ordered: Callable[[Mapping[str, Any]], bool] = _never
    unnamed: Callable[[Mapping[str, Any]], bool] = _never

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Tuner.methods`."""
        return (self.method,)

    @property
    def settings(self) -> frozenset[str]:
        """See `Tuner.settings`."""
        said = {member.name for member in self.members.values()}
        patterns = {member.pattern for member in self.members.values() if member.pattern is not None}
        return frozenset(said | patterns | set(self.derived_from) | set(self.only)) | self.silent

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """See `Tuner.refused`: what other values mean is checked with the part."""
        wrong = {name: config[name] for name, value in self.only.items() if config.get(name, value) != value}
        return [
            f"{name}={value!r} is not served: save it with {name}={self.only[name]!r}" for name, value in wrong.items()
        ]

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """See `Tuner.read`."""
        keys = {f"{SHARED_ROOT}{name}": native for name, native in self.shared.items()}
        for name, native in self.lists.items():
            stem = f"{SHARED_ROOT}{name}."
            keys |= {key: f"{native}.{key.removeprefix(stem)}" for key in saved.tensors if key.startswith(stem)}
        shared = {native: saved.tensors[key] for key, native in keys.items() if key in saved.tensors}
        own = {key: tensor for key, tensor in saved.tensors.items() if key not in keys}
        own_saved = Saved(saved.config, own, saved.host)
        if self.unnamed(saved.config):
            found, host = named(own_saved, self.stem, reasons)
        else:
            found, host = adapted(own_saved, {**self.parameters, **self._copies}, self.stem, reasons), saved.host
        tensors: dict[str, Tensor] = {
            f"model/{self.method}/{name}": _number(tensor) for name, tensor in shared.items() if tensor.numel()
        }
        sites: dict[str, Any] = {}
        ordered = host.in_order(found.paths) if self.ordered(saved.config) else []
        for path, address in found.paths.items():
            held = {
                name.removeprefix(f"{address}/"): t
                for name, t in found.tensors.items()
                if name.startswith(f"{address}/")
            }
            for name in self._copies.values():
                copy = held.pop(name, None)
                if copy is not None and (name not in shared or not torch.equal(copy, shared[name])):
                    reasons.append(f"{path} holds another {name} than what all modules share")
            said = {setting: member.of(saved.config, path) for setting, member in self.members.items()}
            said |= (
                self.placed(saved.config, path, ordered.index(path) if ordered else 0, len(ordered)) | saved.task.said
            )
            sites[address] = {**said, **self.derived(saved.config, held)}
            kept = {name: tensor for name, tensor in held.items() if tensor.numel()}  # a package has no empty tensors
            tensors |= {f"{address}/{name}": _number(tensor) for name, tensor in kept.items()}
        return Found((PartSpec(self.method, {"sites": sites}),), tensors, found.rest)

    def write(self, package: Package, host: Host) -> Written:
        """See `Tuner.write`: the tensors alone; PEFT's configuration is that of the folder that was read."""
        stored: dict[str, Tensor] = {}
        shared = {
            name: package.tensors[f"model/{self.method}/{native}"]
            for name, native in self.shared.items()
            if f"model/{self.method}/{native}" in package.tensors
        }
        for name, native in self.lists.items():
            stem = f"model/{self.method}/{native}."
            shared |= {f"{name}.{k.removeprefix(stem)}": t for k, t in package.tensors.items() if k.startswith(stem)}
        for name, held in shared.items():
            stored[f"{SHARED_ROOT}{name}"] = held.to(self.integer(name, {}) or held.dtype)
        for site, said in package.manifest.parts[0].config["sites"].items():
            path = f"{ROOT}{host.whole_path(Address.parse(site))}"
            for name, native in self.parameters.items():
                tensor = package.tensors.get(f"{site}/{native}")
                if tensor is not None:
                    stored[f"{path}.{name}"] = tensor.to(self.integer(name, said) or tensor.dtype)
            stored |= {f"{path}.{name}": shared[name].clone() for name in self.copied if name in shared}
        return Written(stored, None)

    @property
    def _copies(self) -> dict[str, str]:
        return {name: self.shared[name] for name in self.copied}


def _number(tensor: Tensor) -> Tensor:
    """A tensor of integers as one of floating numbers."""
    return tensor if tensor.is_floating_point() else tensor.float()
