"""AdapterHub's verbs for adapters: add, load, save, delete, train, freeze."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adapters.door import blocks
from adapters.door.arguments import Names, labels_to_load, refuse
from adapters.door.configs import Config, parts, same
from adapters.door.owner import DEFAULT, Owner, folder_of
from adapters.door.sources import below, readable, tell
from adapters.errors import Misfit
from adapters.formats import files, recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.labels import of_head
from adapters.manifest import Manifest, Provenance
from adapters.methods.table import METHODS
from adapters.weights import Package


class Adapters(Owner):
    """Verbs for adapters."""

    def add_adapter(
        self,
        adapter_name: str,
        config: Config = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
        **overrides: Any,
    ) -> None:
        """Add a fresh adapter, which trains until `train_adapter` says otherwise.

        `config` is a preset (`adapters.methods.presets`; seq_bn if None) with AdapterHub's members as overrides, in
        keywords or as `"lora[r=4,alpha=8]"`; several joined by `|` are a union. Or AdapterHub's dictionary, or the
        parts of a package. Raises `ValueError` where the name is taken, `Misfit` with every reason.
        """
        made = parts(config, overrides, self.backbone.profile)
        generator = self.generator()
        tensors: dict[str, Tensor] = {}
        for part in made:
            tensors |= METHODS[part.method].initialise(part.config, self.fitting(), generator)
        package = Package(self.manifest("adapter", parts=made), tensors)
        self.keep(self.adapters, adapter_name, package, replace=overwrite_ok)
        if set_active:
            self.set_active_adapters(adapter_name)

    def load_adapter(
        self,
        adapter_name_or_path: str | Path,
        config: Config = None,
        version: str | None = None,
        model_name: str | None = None,
        load_as: str | None = None,
        with_head: bool = True,
        custom_weights_loaders: Any = None,
        leave_out: Any = None,
        id2label: Names = None,
        set_active: bool = False,
        use_safetensors: bool = True,
        *,
        labels: Sequence[str] | None = None,
        problem_type: str | None = None,
        head_seed: int | None = None,
        task_id: int | None = None,
    ) -> str:
        """Load an adapter and its head (AdapterHub, PEFT, native; a folder, a file or a hub id); frozen at first.

        Returns its name: `load_as`, else what the folder says, else what it is called. One of that name is replaced.
        `config`: what it has to be, if that matters. `id2label`, or `labels` in their order, rename the head's;
        `problem_type` is for heads of PEFT, which do not say it, and `head_seed`, under which the model was loaded for
        training, gives what PEFT left out of some. `task_id` is for folders of PEFT that hold several tasks: the adapter
        is for that one. Raises `Misfit` with every reason, `InvalidName`, and `TypeError` for what has no meaning here.
        """
        refuse(
            "load_adapter",
            version=version,
            model_name=model_name,
            custom_weights_loaders=custom_weights_loaders,
            leave_out=leave_out,
        )
        path, named = adapter_name_or_path, labels_to_load(id2label, labels)
        with readable(path) as source:
            said: dict[str, Any] = {"labels": named, "problem_type": problem_type}
            said |= {"head_seed": head_seed, "task_id": task_id}
            package = recognise.read(source, self.backbone.profile, **said)
            name = load_as or _own_name(source, Path(path))
        if package.manifest.kind != "adapter":
            raise Misfit([f"{path} holds no adapter, but a package of kind {package.manifest.kind!r}"])
        profile = self.backbone.profile
        if config is not None and not same(package.manifest.parts, parts(config, {}, profile), profile):
            raise Misfit([f"{path} was made with another configuration than {config!r}: leave config out to load it"])
        alone, head = parted(package)
        self.keep(self.adapters, name, alone, replace=True, frozen=True)
        if head is not None and with_head:
            self.keep(self.heads, name, head, replace=True, frozen=True)
            self.active_head = name
        if set_active:
            self.set_active_adapters(name)
        for loaded in (alone, head if with_head else None):
            tell(path, () if loaded is None else recognise.warnings(loaded))
        return name

    def save_adapter(
        self,
        save_directory: str | Path,
        adapter_name: str,
        with_head: bool = True,
        meta_dict: Any = None,
        custom_weights_loaders: Any = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save an adapter, and the head of its name, as AdapterHub's folder (safetensors), in the place of an older one.

        Raises `Misfit` for what that layout has no words for; `adapter_package` has.
        """
        refuse(
            "save_adapter",
            meta_dict=meta_dict,
            custom_weights_loaders=custom_weights_loaders,
            use_safetensors=use_safetensors,
        )
        package = self.adapter_package(adapter_name, with_head=with_head)
        adapterhub.write(package, folder_of(save_directory), name=adapter_name)

    def save_all_adapters(
        self,
        save_directory: str | Path,
        with_head: bool = True,
        meta_dict: Any = None,
        custom_weights_loaders: Any = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save every adapter in a folder of its name; raises `InvalidName` for a name that no folder can have."""
        refuse("save_all_adapters", use_safetensors=use_safetensors)
        places = {name: below(save_directory, name) for name in self.adapters}
        for name, place in places.items():
            self.save_adapter(place, name, with_head, meta_dict, custom_weights_loaders, use_safetensors)

    @property
    def has_adapters(self) -> bool:
        """Whether there is any adapter."""
        return len(self.adapters) > 0

    def get_adapter(self, name: str) -> dict[int, dict[str, dict[str, Tensor]]]:
        """An adapter's tensors by layer, then by site; -1 is what is of no layer."""
        found: dict[int, dict[str, dict[str, Tensor]]] = {}
        for key, tensor in self.adapters[name].tensors().items():
            layer, site, tensor_name = key.split("/", 2)
            number = int(layer) if layer.isdigit() else -1
            found.setdefault(number, {}).setdefault(site, {})[tensor_name] = tensor
        return found

    def adapter_package(self, name: str, *, with_head: bool = True) -> Package:
        """The native package of an adapter, as it is published; `adapters.formats.native.write` makes its bytes."""
        held = self.adapters[name].package()
        head = self.heads[name].package() if with_head and name in self.heads else None
        return joined(name, held, head)

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter, if it is here; an active composition with it is no longer active. Its head stays."""
        if adapter_name not in self.adapters:
            return
        del self.adapters[adapter_name]
        if adapter_name in blocks.names(self.active_adapters):
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
        """Leave a head as it is in training, whatever trains then, or no longer."""
        self.heads[name].freeze(frozen=freeze)
        (self._frozen_heads.add if freeze else self._frozen_heads.discard)(name)

    def _train(self, adapters: set[str], fusions: set[str]) -> None:
        self.train()
        for name in self.adapters:
            self.adapters[name].freeze(frozen=name not in adapters)
        for name in self.fusions:
            self.fusions[name].freeze(frozen=name not in fusions)
        for name in self.heads:
            self.heads[name].freeze(frozen=name in self._frozen_heads)


def parted(package: Package) -> tuple[Package, Package | None]:
    """An adapter without its head, and the head that travelled with it."""
    manifest = package.manifest
    if manifest.head is None:
        return package, None
    inside = {name: tensor for name, tensor in package.tensors.items() if name.startswith("head/")}
    rest = {name: tensor for name, tensor in package.tensors.items() if name not in inside}
    source = dict(manifest.source)
    head_source: dict[str, Any] = {key: source.pop(key) for key in ("head_config", "warnings") if key in source}
    said = recognise.warnings(package)
    if said:
        head_source["warnings"] = [text for text in said if of_head(text)]
        source |= {"warnings": own} if (own := [text for text in said if not of_head(text)]) else {}
    head = replace(manifest, kind="head", parts=(), source=head_source)
    return Package(replace(manifest, head=None, source=source), rest), Package(head, inside)


def joined(name: str, package: Package, head: Package | None) -> Package:
    """A package to be saved under a name, with a head if one goes along; what its source said stays if it still fits."""
    manifest = renamed(package.manifest, name)
    if head is None:
        return Package(manifest, package.tensors)
    other = renamed(head.manifest, name)
    assert other.head is not None
    source = {**manifest.source, **other.source}
    if "warnings" in source:
        source["warnings"] = [*recognise.warnings(package), *recognise.warnings(head)]
    whole = replace(manifest, head=other.head, source=source)
    return Package(whole, {**package.tensors, **head.tensors})


def renamed(manifest: Manifest, name: str) -> Manifest:
    """The manifest of a package that is saved under a name: another one than before makes it ours."""
    configs = [manifest.source.get(key) for key in ("adapter_config", "head_config", "fusion_config")]
    head = manifest.head if manifest.head is None else replace(manifest.head, name=name)
    if any(isinstance(config, Mapping) and config.get("name") not in (name, None) for config in configs):
        said = {key: manifest.source[key] for key in ("warnings",) if key in manifest.source}
        return replace(manifest, head=head, source=said, provenance=Provenance("chorus", "1"))
    return replace(manifest, head=head)


def _own_name(source: Path, given: Path) -> str:
    config = source / "adapter_config.json"
    said = files.read_json(config).get("name") if config.is_file() else None
    name = str(said) if said else given.stem if given.is_file() else given.name or given.resolve().name
    below(source, name)  # somebody else chose it: it must not lead where its owner would not write
    return name
