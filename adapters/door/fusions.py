"""AdapterHub's verbs for AdapterFusion: add layers over several adapters, load, save and delete them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.composition import Fuse as FuseBlock
from adapters.door import blocks
from adapters.door.adapters import renamed
from adapters.door.owner import Owner, folder_of
from adapters.door.sources import readable
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
        config: str = "dynamic",
        name: str | None = None,
        *,
        overwrite_ok: bool = False,
        set_active: bool = False,
        **overrides: bool,
    ) -> str:
        """Add attention over the adapters of a `Fuse` (or a list of names), wherever they act; returns its name.

        It trains until told otherwise. Raises `ValueError` for unknown adapters, `Misfit` where they act nowhere that
        can be fused.
        """
        fuse = _fuse(adapter_names, name)
        if config not in CONFIGS:
            raise Misfit([f"{config!r} is no configuration of a fusion; there are {', '.join(CONFIGS)}"])
        children = tuple(blocks.names(fuse))
        sites: dict[str, Any] = {site: {} for child in children for site in self._sites(child)}
        if not sites:
            raise Misfit(["the adapters have no bottlenecks: there is nothing that could be fused"])
        part = PartSpec(FUSION.name, {"sites": sites, **CONFIGS[config], **overrides})
        tensors = FUSION.initialise(part.config, self.fitting(), self.generator())
        called = blocks.fusion_name(fuse)
        manifest = self.manifest("fusion", parts=(part,), children=tuple(_lasts(fuse)))
        self.keep(self.fusions, called, Package(manifest, tensors), replace=overwrite_ok)
        if set_active:
            self.set_active_adapters(fuse)
        return called

    def load_adapter_fusion(self, path: str | Path, load_as: str | None = None, set_active: bool = False) -> str:
        """Load a fusion (AdapterHub, native); frozen at first. Returns its name."""
        with readable(path) as source:
            package = recognise.read(source, self.backbone.profile)
        if package.manifest.kind != "fusion":
            raise Misfit([f"{path} holds no fusion, but a package of kind {package.manifest.kind!r}"])
        saved = package.manifest.source.get("fusion_config", {})
        name = load_as or str(saved.get("name") or ",".join(package.manifest.children))
        self.keep(self.fusions, name, package, replace=True, frozen=True)
        if set_active:
            self.set_active_adapters(blocks.Fuse(*package.manifest.children, name=name))
        return name

    def save_adapter_fusion(self, path: str | Path, adapter_names: Any) -> None:
        """Save a fusion, given by its name, its adapters or its `Fuse`, as AdapterHub's folder."""
        known = isinstance(adapter_names, str) and adapter_names in self.fusions
        name = adapter_names if known else blocks.fusion_name(_fuse(adapter_names, None))
        package = self.fusions[name].package()
        adapterhub.write(Package(renamed(package.manifest, name), package.tensors), folder_of(path), name=name)

    def delete_adapter_fusion(self, adapter_names: Any) -> None:
        """Forget a fusion; an active composition with it is no longer active."""
        known = isinstance(adapter_names, str) and adapter_names in self.fusions
        name = adapter_names if known else blocks.fusion_name(_fuse(adapter_names, None))
        del self.fusions[name]
        if name in blocks.fusions(self.active_adapters):
            self.set_active_adapters(None)

    def _sites(self, adapter: str) -> list[str]:
        """Where an adapter has bottlenecks."""
        parts = self.adapters[adapter].manifest.parts
        sites = [site for part in parts for site in part.config.get("sites", {})]
        return [site for site in sites if site.rsplit("/", 1)[-1] in SITES]


def _fuse(value: Any, name: str | None) -> FuseBlock:
    """What stands for a fusion: a `Fuse`, a list of adapters, or their names joined by commas."""
    if isinstance(value, str):
        value = value.split(",")
    made = blocks.Fuse(*value, name=name) if isinstance(value, Sequence) else blocks.block(value)
    if not isinstance(made, FuseBlock):
        raise TypeError(f"a fusion is a Fuse or a list of adapters, not {type(value).__name__}")
    return made if name is None else FuseBlock(made.children, Reference(name))


def _lasts(fuse: FuseBlock) -> list[str]:
    return [list(blocks.names(child))[-1] for child in fuse.children]
