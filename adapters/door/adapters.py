"""AdapterHub's verbs for adapters: add, load, save, delete, train, freeze."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adapters.door import blocks
from adapters.door.owner import DEFAULT, Owner, folder_of
from adapters.door.sources import readable
from adapters.errors import Misfit
from adapters.formats import files, recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.manifest import Manifest, PartSpec, Provenance
from adapters.methods.presets import parts_of
from adapters.methods.table import METHODS
from adapters.weights import Package

_PRESET = re.compile(r"([^\[\]|]+)(?:\[([^\]]*)\])?")


class Adapters(Owner):
    """Verbs for adapters."""

    def add_adapter(
        self,
        name: str,
        config: str | Sequence[PartSpec] = "seq_bn",
        *,
        overwrite_ok: bool = False,
        set_active: bool = False,
        **overrides: Any,
    ) -> None:
        """Add a fresh adapter, which trains until `train_adapter` says otherwise.

        `config` is a preset (`adapters.methods.presets`) with AdapterHub's members as overrides, in keywords or as
        `"lora[r=4,alpha=8]"`; several joined by `|` are a union. Or the parts of a package themselves.
        Raises `ValueError` where the name is taken, `Misfit` with every reason.
        """
        parts = tuple(config) if not isinstance(config, str) else _union(config, overrides, self)
        generator = self.generator()
        tensors: dict[str, Tensor] = {}
        for part in parts:
            if part.method not in METHODS:
                raise Misfit([f"{part.method!r} is no method; there are {', '.join(METHODS)}"])
            tensors |= METHODS[part.method].initialise(part.config, self.fitting(), generator)
        self.keep(self.adapters, name, Package(self.manifest("adapter", parts=parts), tensors), replace=overwrite_ok)
        if set_active:
            self.set_active_adapters(name)

    def load_adapter(
        self,
        path: str | Path,
        load_as: str | None = None,
        with_head: bool = True,
        set_active: bool = False,
        *,
        labels: Sequence[str] | None = None,
        problem_type: str | None = None,
    ) -> str:
        """Load an adapter and its head (AdapterHub, PEFT, native; a folder, a file or a hub id); frozen at first.

        Returns its name: `load_as`, else what the folder says, else what it is called. One of that name is replaced.
        `labels` and `problem_type` are for heads of PEFT, which say neither. Raises `Misfit` with every reason.
        """
        with readable(path) as source:
            package = recognise.read(source, self.backbone.profile, labels=labels, problem_type=problem_type)
            name = load_as or _own_name(source, Path(path))
        if package.manifest.kind != "adapter":
            raise Misfit([f"{path} holds no adapter, but a package of kind {package.manifest.kind!r}"])
        alone, head = parted(package)
        self.keep(self.adapters, name, alone, replace=True, frozen=True)
        if head is not None and with_head:
            self.keep(self.heads, name, head, replace=True, frozen=True)
            self.active_head = name
        if set_active:
            self.set_active_adapters(name)
        return name

    def save_adapter(self, path: str | Path, name: str, with_head: bool = True) -> None:
        """Save an adapter, and the head of its name, as AdapterHub's folder (safetensors).

        Raises `Misfit` for what that layout has no words for; `adapter_package` has.
        """
        package = self.adapter_package(name, with_head=with_head)
        adapterhub.write(package, folder_of(path), name=name)

    def save_all_adapters(self, path: str | Path, *, with_head: bool = True) -> None:
        """Save every adapter in a folder of its name."""
        for name in self.adapters:
            self.save_adapter(Path(path) / name, name, with_head=with_head)

    def adapter_package(self, name: str, *, with_head: bool = True) -> Package:
        """The native package of an adapter, as it is published; `adapters.formats.native.write` makes its bytes."""
        held = self.adapters[name].package()
        head = self.heads[name].package() if with_head and name in self.heads else None
        return joined(name, held, head)

    def delete_adapter(self, name: str) -> None:
        """Forget an adapter; an active composition with it is no longer active. Its head stays."""
        del self.adapters[name]
        if name in blocks.names(self.active_adapters):
            self.set_active_adapters(None)

    def train_adapter(self, adapter_setup: Any, train_embeddings: bool = False) -> None:
        """Train the adapters of a composition, make it active, and freeze all other adapters and fusions.

        Heads train too, unless `freeze_head` says otherwise; so does the active vocabulary if asked for. The backbone
        never trains: its own vocabulary neither. Raises `ValueError`.
        """
        setup = self.known(blocks.block(adapter_setup))
        if train_embeddings and self._active_embedding == DEFAULT:
            raise ValueError("the backbone's own vocabulary is frozen: add_embeddings a copy of it to train that")
        self._train(set(blocks.names(setup)), set())
        for name in self.embeddings:
            self.embeddings[name].freeze(frozen=not (train_embeddings and name == self._active_embedding))
        self.set_active_adapters(adapter_setup)

    def train_adapter_fusion(self, adapter_setup: Any, unfreeze_adapters: bool = False) -> None:
        """Train the fusions of a composition over its frozen adapters, and make it active. Raises `ValueError`."""
        setup = self.known(blocks.block(adapter_setup))
        wanted = set(blocks.fusions(setup))
        if not wanted:
            raise ValueError("the composition has no Fuse: what should train?")
        self._train(set(blocks.names(setup)) if unfreeze_adapters else set(), wanted)
        for name in self.embeddings:
            self.embeddings[name].freeze(frozen=True)
        self.set_active_adapters(adapter_setup)

    def freeze_adapter(self, name: str, freeze: bool = True) -> None:
        """Leave an adapter as it is in training, or no longer."""
        self.adapters[name].freeze(frozen=freeze)

    def freeze_head(self, name: str, freeze: bool = True) -> None:
        """Leave a head as it is in training, or no longer."""
        self.heads[name].freeze(frozen=freeze)

    def _train(self, adapters: set[str], fusions: set[str]) -> None:
        self.train()
        for name in self.adapters:
            self.adapters[name].freeze(frozen=name not in adapters)
        for name in self.fusions:
            self.fusions[name].freeze(frozen=name not in fusions)
        for name in self.heads:
            self.heads[name].freeze(frozen=False)


def parted(package: Package) -> tuple[Package, Package | None]:
    """An adapter without its head, and the head that travelled with it."""
    manifest = package.manifest
    if manifest.head is None:
        return package, None
    inside = {name: tensor for name, tensor in package.tensors.items() if name.startswith("head/")}
    rest = {name: tensor for name, tensor in package.tensors.items() if name not in inside}
    source = dict(manifest.source)
    head_source: dict[str, Any] = {key: source.pop(key) for key in ("head_config", "warnings") if key in source}
    head = replace(manifest, kind="head", parts=(), source=head_source)
    return Package(replace(manifest, head=None, source=source), rest), Package(head, inside)


def joined(name: str, package: Package, head: Package | None) -> Package:
    """A package to be saved under a name, with a head if one goes along; what its source said stays if it still fits."""
    manifest = renamed(package.manifest, name)
    if head is None:
        return Package(manifest, package.tensors)
    other = renamed(head.manifest, name)
    assert other.head is not None
    source = {**manifest.source, **{key: value for key, value in other.source.items() if key != "warnings"}}
    whole = replace(manifest, head=other.head, source=source)
    return Package(whole, {**package.tensors, **head.tensors})


def renamed(manifest: Manifest, name: str) -> Manifest:
    """The manifest of a package that is saved under a name: another one than before makes it ours."""
    configs = [manifest.source.get(key) for key in ("adapter_config", "head_config", "fusion_config")]
    head = manifest.head if manifest.head is None else replace(manifest.head, name=name)
    if any(isinstance(config, Mapping) and config.get("name") not in (name, None) for config in configs):
        return replace(manifest, head=head, source={}, provenance=Provenance("chorus", "1"))
    return replace(manifest, head=head)


def _own_name(source: Path, given: Path) -> str:
    config = source / "adapter_config.json"
    said = files.read_json(config).get("name") if config.is_file() else None
    return str(said) if said else given.stem if given.is_file() else given.name


def _union(config: str, overrides: Mapping[str, Any], owner: Owner) -> tuple[PartSpec, ...]:
    """The parts of `a[x=1]|b`."""
    parts: list[PartSpec] = []
    for one in config.split("|"):
        match = _PRESET.fullmatch(one.strip())
        if match is None:
            raise Misfit(
                [f"{config!r} is no configuration: write a preset, 'preset[r=4,alpha=8]', or several with '|'"]
            )
        own = dict(pair.split("=", 1) for pair in (match[2] or "").split(",") if "=" in pair)
        given = {key.strip(): _value(text.strip()) for key, text in own.items()}
        parts += parts_of(match[1].strip(), owner.fitting(), **given, **overrides)
    return tuple(parts)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
