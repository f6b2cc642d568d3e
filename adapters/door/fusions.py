"""AdapterHub's verbs for AdapterFusion: add layers over several adapters, load, save and delete them."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.composition import Fuse as FuseBlock
from adapters.door import blocks
from adapters.door.adapters import renamed
from adapters.door.arguments import refuse
from adapters.door.owner import Owner, folder_of
from adapters.door.sources import below, readable, tell
from adapters.errors import Misfit
from adapters.formats import recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.manifest import PartSpec
from adapters.methods.fusion import FUSION, SITES
from adapters.refs import Reference
from adapters.weights import Package

_DYNAMIC: Mapping[str, bool] = {
    "query": True,
    "key": True,
    "value": True,
    "query_before_ln": False,
    "residual_before": False,
    "value_before_softmax": True,
}
CONFIGS: Mapping[str, Mapping[str, bool]] = {"dynamic": _DYNAMIC, "static": {**_DYNAMIC, "value": False}}


class Fusions(Owner):
    """Verbs for fusions. A fusion is called as its adapters, joined by commas, unless named."""

    def add_adapter_fusion(
        self,
        adapter_names: Any,
        config: str | Mapping[str, bool] | None = None,
        name: str | None = None,
        overwrite_ok: bool = False,
        set_active: bool = False,
        **overrides: bool,
    ) -> str:
        """Add attention over the adapters of a `Fuse` (or a list of names), wherever they act; returns its name.

        `config`: `dynamic` (if None), `static`, or a dictionary of what differs from `dynamic`, as in `overrides`. It
        trains until told otherwise. Raises `ValueError` for unknown adapters, `Misfit` where they act nowhere that
        can be fused.
        """
        fuse = _fuse(adapter_names, name)
        settings = _settings(config)
        children = tuple(blocks.names(fuse))
        sites: dict[str, Any] = {site: {} for child in children for site in self._sites(child)}
        if not sites:
            raise Misfit(["the adapters have no bottlenecks: there is nothing that could be fused"])
        part = PartSpec(FUSION.name, {"sites": sites, **settings, **overrides})
        tensors = FUSION.initialise(part.config, self.fitting(), self.generator())
        called = blocks.fusion_name(fuse)
        manifest = self.manifest("fusion", parts=(part,), children=tuple(_lasts(fuse)))
        self.keep(self.fusions, called, Package(manifest, tensors), replace=overwrite_ok)
        if set_active:
            self.set_active_adapters(fuse)
        return called

    def load_adapter_fusion(
        self,
        adapter_fusion_name_or_path: str | Path,
        load_as: str | None = None,
        custom_weights_loaders: Any = None,
        set_active: bool = False,
        with_head: bool = True,
        use_safetensors: bool = True,
    ) -> str:
        """Load a fusion (AdapterHub, native), and a head that lies in its folder; frozen at first. Returns its name.

        To be active it needs its adapters, loaded before. Raises `Misfit`, `InvalidName`, and `ValueError` for those.
        """
        refuse("load_adapter_fusion", custom_weights_loaders=custom_weights_loaders)
        path = adapter_fusion_name_or_path
        with readable(path) as source:
            package = recognise.read(source, self.backbone.profile)
            head = self._head_beside(source) if with_head else None
        if package.manifest.kind != "fusion":
            raise Misfit([f"{path} holds no fusion, but a package of kind {package.manifest.kind!r}"])
        saved = package.manifest.source.get("fusion_config", {})
        name = load_as or str(saved.get("name") or ",".join(package.manifest.children))
        if load_as is None:
            below(path, name)
        for child in package.manifest.children if set_active else ():
            self.adapters[child]
        self.keep(self.fusions, name, package, replace=True, frozen=True)
        if head is not None:
            called = name if load_as or head.manifest.head is None else head.manifest.head.name or name
            self.keep(self.heads, called, head, replace=True, frozen=True)
            self.active_head = called
        if set_active:
            self.set_active_adapters(blocks.Fuse(*package.manifest.children, name=name))
        for held in (package, head):
            tell(path, () if held is None else recognise.warnings(held))
        return name

    def save_adapter_fusion(
        self,
        save_directory: str | Path,
        adapter_names: Any,
        meta_dict: Any = None,
        custom_weights_loaders: Any = None,
        with_head: bool | str = False,
        use_safetensors: bool = True,
    ) -> None:
        """Save a fusion, given by its name, its adapters or its `Fuse`, as AdapterHub's folder.

        `with_head`: the head of that name as well, or, if true, the one of the fusion's name.
        """
        refuse(
            "save_adapter_fusion",
            meta_dict=meta_dict,
            custom_weights_loaders=custom_weights_loaders,
            use_safetensors=use_safetensors,
        )
        name = self._called(adapter_names)
        package = self.fusions[name].package()
        head_name = with_head if isinstance(with_head, str) else name
        head = self.heads[head_name].package() if with_head else None
        folder = folder_of(save_directory)
        adapterhub.write(Package(renamed(package.manifest, name), package.tensors), folder, name=name)
        if head is not None:
            adapterhub.write(Package(renamed(head.manifest, head_name), head.tensors), folder, name=head_name)

    def save_all_adapter_fusions(
        self,
        save_directory: str | Path,
        meta_dict: Any = None,
        custom_weights_loaders: Any = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save every fusion in a folder of its name; raises `InvalidName` for a name that no folder can have."""
        refuse("save_all_adapter_fusions", use_safetensors=use_safetensors)
        places = {name: below(save_directory, name) for name in self.fusions}
        for name, place in places.items():
            self.save_adapter_fusion(
                place,
                name,
                meta_dict,
                custom_weights_loaders,
                with_head=name in self.heads,
                use_safetensors=use_safetensors,
            )

    def delete_adapter_fusion(self, adapter_names: Any) -> None:
        """Forget a fusion, if it is here; an active composition with it is no longer active."""
        name = self._called(adapter_names)
        if name not in self.fusions:
            return
        del self.fusions[name]
        if name in blocks.fusions(self.active_adapters):
            self.set_active_adapters(None)

    def _called(self, value: Any) -> str:
        """The name of what stands for a fusion."""
        return value if isinstance(value, str) and value in self.fusions else blocks.fusion_name(_fuse(value, None))

    def _head_beside(self, source: Path) -> Package | None:
        """The head in a fusion's folder."""
        if not (source / adapterhub.FUSION_CONFIG).is_file() or not (source / adapterhub.HEAD_CONFIG).is_file():
            return None
        with tempfile.TemporaryDirectory(prefix="chorus-") as scratch:  # a folder of a head alone is one of the formats
            for name in (adapterhub.HEAD_CONFIG, adapterhub.HEAD):
                shutil.copyfile(source / name, Path(scratch) / name)
            return recognise.read(Path(scratch), self.backbone.profile)

    def _sites(self, adapter: str) -> list[str]:
        """Where an adapter has bottlenecks."""
        parts = self.adapters[adapter].manifest.parts
        sites = [site for part in parts for site in part.config.get("sites", {})]
        return [site for site in sites if site.rsplit("/", 1)[-1] in SITES]


def _fuse(value: Any, name: str | None) -> FuseBlock:
    """What stands for a fusion: a `Fuse`, a list of adapters, or their names joined by commas."""
    if blocks.skipped(value):
        raise TypeError("a fusion acts in all of its layers: skip some when it is active")
    if isinstance(value, str):
        value = value.split(",")
    made = blocks.Fuse(*value, name=name) if isinstance(value, Sequence) else blocks.block(value)
    if not isinstance(made, FuseBlock):
        raise TypeError(f"a fusion is a Fuse or a list of adapters, not {type(value).__name__}")
    return made if name is None else FuseBlock(made.children, Reference(name))


def _lasts(fuse: FuseBlock) -> list[str]:
    return [list(blocks.names(child))[-1] for child in fuse.children]


def _settings(config: Any) -> Mapping[str, bool]:
    """The members of a fusion's configuration; raises `Misfit`."""
    if isinstance(config, Mapping):
        return {**_DYNAMIC, **config}
    if config is not None and (not isinstance(config, str) or config not in CONFIGS):
        raise Misfit([f"{config!r} is no configuration of a fusion; there are {', '.join(CONFIGS)}, and dictionaries"])
    return CONFIGS[config or "dynamic"]
