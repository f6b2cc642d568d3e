"""AdapterHub's verbs for what takes several adapters: saved setups, averages, and the list of all that is here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters import composition
from adapters.composition import Leaf
from adapters.door import averages, blocks
from adapters.door.adapters import Adapters, parted
from adapters.door.arguments import refuse
from adapters.door.blocks import BatchSplit, Setup
from adapters.door.fusions import Fusions
from adapters.door.heads import Heads
from adapters.door.owner import folder_of
from adapters.door.sources import below, readable, tell
from adapters.errors import Misfit
from adapters.formats import files
from adapters.formats.adapterhub import setup as setups
from adapters.formats.adapterhub.envelope import WRITTEN_VERSION
from adapters.formats.adapterhub.folder import SETUP_CONFIG
from adapters.weights import Package


class Setups(Adapters, Heads, Fusions):
    """Verbs for arrangements of adapters."""

    def save_adapter_setup(
        self,
        save_directory: str | Path,
        adapter_setup: Any,
        head_setup: str | None = None,
        meta_dict: Any = None,
        custom_weights_loaders: Any = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save a composition with its adapters, fusions and heads, as AdapterHub lays out a setup.

        `head_setup`: the head that answers, where it is not the last adapter's own. Raises `Misfit` for what the
        library can not save, `InvalidName` for names that no folder can have.
        """
        refuse(
            "save_adapter_setup",
            meta_dict=meta_dict,
            custom_weights_loaders=custom_weights_loaders,
            use_safetensors=use_safetensors,
        )
        setup = self.known(blocks.block(adapter_setup))
        if self.skipped(adapter_setup):
            raise Misfit(["a saved setup can not say skip_layers: give them when it is active"])
        if head_setup is not None and not isinstance(head_setup, str):
            raise TypeError(f"head_setup is the name of a head, not {type(head_setup).__name__}")
        adapter_names, fusion_names = (list(dict.fromkeys(found(setup))) for found in (blocks.names, blocks.fusions))
        extra = [head_setup] if head_setup is not None and head_setup not in adapter_names else []
        for name in extra:
            self.heads[name]
        saved = {"adapter_setup": _saved(setup), "head_setup": head_setup, "version": WRITTEN_VERSION}
        places = {name: below(save_directory, name) for name in (*adapter_names, *fusion_names, *extra)}
        for name in adapter_names:
            self.save_adapter(places[name], name)
        for name in fusion_names:
            self.save_adapter_fusion(places[name], name)
        for name in extra:
            self.save_head(places[name], name)
        files.write_json(folder_of(save_directory) / SETUP_CONFIG, saved)

    def load_adapter_setup(
        self,
        adapter_setup_name_or_path: str | Path,
        version: str | None = None,
        custom_weights_loaders: Any = None,
        set_active: bool = False,
        use_safetensors: bool = True,
    ) -> tuple[Setup, str | None]:
        """Load a saved setup, all frozen at first; returns the composition and the head, if it names one."""
        refuse("load_adapter_setup", version=version, custom_weights_loaders=custom_weights_loaders)
        with readable(adapter_setup_name_or_path) as source:
            found = setups.read(source, self.backbone.profile)
        for name, package in found.adapters.items():
            alone, head = parted(package)
            self.keep(self.adapters, name, alone, replace=True, frozen=True)
            if head is not None:
                self.keep(self.heads, name, head, replace=True, frozen=True)
        for name, package in found.fusions.items():
            self.keep(self.fusions, name, package, replace=True, frozen=True)
        for name, package in found.heads.items():
            self.keep(self.heads, name, package, replace=True, frozen=True)
        setup = blocks.block(found.composition)
        if set_active:
            self.set_active_adapters(setup)
            if found.head is not None:
                self.active_head = found.head
        tell(adapter_setup_name_or_path, found.warnings)
        return setup, found.head

    def average_adapter(
        self,
        adapter_name: str,
        adapter_list: Sequence[str] | Mapping[str, float],
        weights: Sequence[float] | None = None,
        combine_strategy: str = "linear",
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
        svd_rank: int | None = None,
    ) -> None:
        """Add the weighted average of adapters with one configuration (`adapters.door.averages`).

        Weights are equal if not given, and divided by their sum unless `normalize_weights` is off.
        """
        names, held = _weighted(adapter_list, weights, normalize=normalize_weights)
        packages = [self.adapters[name].package() for name in names]
        made = averages.average(packages, held, combine_strategy, svd_rank)
        self.keep(self.adapters, adapter_name, made, replace=overwrite_ok)
        if set_active:
            self.set_active_adapters(adapter_name)

    def average_head(
        self,
        head_name: str,
        head_list: Sequence[str] | Mapping[str, float],
        weights: Sequence[float] | None = None,
        normalize_weights: bool = True,
        overwrite_ok: bool = False,
        set_active: bool = False,
    ) -> None:
        """Add the weighted average of heads that differ in their parameters alone; raises `Misfit`."""
        names, held = _weighted(head_list, weights, normalize=normalize_weights)
        packages = [self.heads[name].package() for name in names]
        specs = [package.manifest.head for package in packages]
        first = specs[0]
        assert first is not None
        if any(spec is None or replace(spec, name=first.name) != first for spec in specs):
            raise Misfit(["the heads differ in their configurations: they can not be averaged"])
        made = averages.average(packages, held, "linear", None)
        manifest = self.manifest("head", head=replace(first, name=head_name))
        self.keep(self.heads, head_name, Package(manifest, made.tensors), replace=overwrite_ok)
        if set_active:
            self.active_head = head_name

    def adapter_summary(self, as_dict: bool = False) -> str | list[dict[str, Any]]:
        """A table of the adapters: method, parameters, their share of the backbone's in percent, active, trained.

        The last row is the backbone's. `as_dict`: the rows themselves, as dictionaries (AdapterHub's name for it).
        """
        whole = sum(parameter.numel() for parameter in self.backbone.model.parameters())
        active = set(blocks.names(self.active_adapters))
        rows: list[dict[str, Any]] = []
        for name in self.adapters:
            held = self.adapters[name]
            size = sum(tensor.numel() for tensor in held.tensors().values())
            row = {"name": name, "architecture": held.manifest.method, "#param": size, "%param": 100 * size / whole}
            rows.append({**row, "active": name in active, "train": held.trains})
        rows.append({"name": "Full model", "#param": whole, "%param": 100.0, "train": False})
        return rows if as_dict else _table(rows)


_COLUMNS: Mapping[str, str] = {  # of a summary, and how each is printed
    "name": "{}",
    "architecture": "{}",
    "#param": "{:,}",
    "%param": "{:.3f}",
    "active": "{:d}",
    "train": "{:d}",
}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    printed = [[look.format(row[key]) if key in row else "" for key, look in _COLUMNS.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *printed, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in ([*_COLUMNS], *printed)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _weighted(
    given: Sequence[str] | Mapping[str, float], weights: Sequence[float] | None, *, normalize: bool
) -> tuple[list[str], list[float]]:
    """What is averaged, and the weight of each; raises `ValueError`."""
    if isinstance(given, str):
        raise TypeError(f"an average takes a list of names, not {given!r}")
    names = list(given)
    if isinstance(given, Mapping):
        weights = list(given.values())
    if not names or (weights is not None and len(weights) != len(names)):
        raise ValueError(f"an average takes names, and a weight for each: {len(names)} of them")
    if weights is None:
        return names, [1 / len(names)] * len(names)
    held = [float(weight) for weight in weights]
    if not all(math.isfinite(weight) for weight in held):
        raise ValueError(f"the weights must be finite, not {held}")
    total = sum(held) if normalize else 1.0
    if abs(total) < composition.SMALLEST_SUM:
        raise ValueError("the weights are divided by their sum, which is zero")
    return names, [weight / total for weight in held]


def _saved(value: Setup) -> dict[str, Any]:
    """A block as the library writes it."""
    if isinstance(value, BatchSplit):
        raise Misfit(["a BatchSplit divides one batch: save the setups of its parts"])
    if isinstance(value, Leaf):
        return {"type": "single", "children": [str(value.ref)]}
    kinds = (composition.Stack, composition.Fuse, composition.Average, composition.Parallel)
    if not isinstance(value, (*kinds, composition.Split, composition.MultiTask)):
        raise Misfit([f"AdapterHub has no block {type(value).__name__}"])
    saved: dict[str, Any] = {"type": type(value).__name__, "children": [_saved(child) for child in value.children]}
    if isinstance(value, composition.Average) and value.weights is not None:
        saved["kwargs"] = {"weights": list(value.weights)}
    if isinstance(value, composition.Split):
        saved["kwargs"] = {"splits": list(value.splits)}
    if isinstance(value, composition.Fuse) and value.name is not None:
        saved["kwargs"] = {"name": value.name.name}
    return saved
