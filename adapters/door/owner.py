"""What one user holds: a frozen backbone, and packages of four kinds under names; what is active of them."""

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from adapters.backbone import Backbone
from adapters.door import blocks
from adapters.door.blocks import Setup
from adapters.errors import InvalidComposition
from adapters.formats import check
from adapters.held import Held, Shelf
from adapters.manifest import HeadSpec, Manifest
from adapters.methods.base import Fitting
from adapters.methods.fold import fitting_of
from adapters.requires import Requires
from adapters.weights import Package

DEFAULT = "default"  # the backbone's own vocabulary


class Owner(nn.Module):
    """The state behind the verbs. The backbone is no module of it: it is in no state, and nothing ever trains it."""

    accepts_loss_kwargs = False  # tells transformers' Trainer that losses are means of a batch
    _keys_to_ignore_on_save = None  # the Trainer asks for it where a checkpoint lacks what the model has

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._backbone = backbone
        self.config = copy.deepcopy(backbone.model.config)  # trainers write into it
        self.adapters, self.heads = Shelf("adapter"), Shelf("head")
        self.fusions, self.embeddings = Shelf("fusion"), Shelf("embedding")
        self._setup: Setup | None = None
        self._skip_layers: frozenset[int] = frozenset()
        self._active_head: str | None = None
        self._frozen_heads: set[str] = set()  # that `freeze_head` froze: training others leaves them so
        self._active_embedding = DEFAULT

    @property
    def backbone(self) -> Backbone:
        """The frozen model."""
        return self._backbone

    @property
    def device(self) -> torch.device:
        """Where the backbone computes."""
        return self._backbone.device

    @property
    def active_adapters(self) -> Setup | None:
        """The composition of calls that name none."""
        return self._setup

    @active_adapters.setter
    def active_adapters(self, setup: Any) -> None:
        self.set_active_adapters(setup)

    def set_active_adapters(self, adapter_setup: Any, skip_layers: Iterable[int] | None = None) -> None:
        """Use a composition wherever a call names none, and its last adapter's head; None is the bare backbone.

        `skip_layers`: where no adapter acts; else what the composition says. Raises `ValueError` for what is not here,
        `InvalidComposition`.
        """
        setup = None if adapter_setup is None else self.known(blocks.block(adapter_setup))
        if skip_layers is not None and isinstance(adapter_setup, Mapping) and "skip_layers" in adapter_setup:
            raise InvalidComposition("give skip_layers once: as an argument, or in the composition")
        wanted = adapter_setup if skip_layers is None else {"skip_layers": _listed(skip_layers)}
        self._setup, self._skip_layers = setup, self.skipped(wanted)
        found = list(blocks.names(setup))
        if found and found[-1] in self.heads:
            self._active_head = found[-1]

    @property
    def active_head(self) -> str | None:
        """The head of calls that name none, and whose last adapter has none of its own name."""
        return self._active_head

    @active_head.setter
    def active_head(self, name: str | None) -> None:
        if name is not None:
            self.heads[name]
        self._active_head = name

    def known(self, setup: Setup) -> Setup:
        """The composition, if every adapter and fusion in it is here; raises `ValueError`."""
        for name in blocks.names(setup):
            self.adapters[name]
        for name in blocks.fusions(setup):
            self.fusions[name]
        return setup

    def skipped(self, setup: Any) -> frozenset[int]:
        """The layers of this backbone that a composition, or its JSON, skips; raises `InvalidComposition`."""
        found, layers = blocks.skipped(setup), self._backbone.profile.geometry.layers
        if strange := sorted(layer for layer in found if layer >= layers):
            raise InvalidComposition(f"skip_layers has {strange[0]}, but the layers are 0 to {layers - 1}")
        return found

    def fitting(self) -> Fitting:
        """The backbone as methods see it."""
        return fitting_of(self._backbone.profile, self._backbone.base_maps)

    def requires(self) -> Requires:
        """The backbone as a package says it."""
        geometry = self._backbone.profile.geometry
        return Requires.of(geometry)

    def keep(self, shelf: Shelf, name: str, package: Package, *, replace: bool = False, frozen: bool = False) -> None:
        """Check a package against the backbone and put it under a name; raises `Misfit` with every reason."""
        check.check(package, self._backbone.profile)
        held = Held(package, self._backbone.dtype)
        held.freeze(frozen=frozen)
        if shelf is self.heads:
            self._frozen_heads.discard(name)
        shelf.put(name, held.to(self._where()), replace=replace)

    def spec(self, head: str | None) -> HeadSpec | None:
        """What a head of this model says of itself."""
        return None if head is None else self.heads[head].manifest.head

    def manifest(self, kind: str, **members: Any) -> Manifest:
        """The manifest of something new."""
        return Manifest(kind, self.requires(), **members)

    def generator(self) -> torch.Generator:
        """A generator that follows torch's own seed, so that `set_seed` decides what new parameters are."""
        return torch.Generator().manual_seed(int(torch.randint(1 << 31, ())))

    def _where(self) -> torch.device:
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """`to`, `cuda` and `cpu` take the backbone along."""
        before = self._backbone.dtype
        moved = next(iter(fn(parameter) for parameter in self._backbone.model.parameters()))
        if moved.dtype is not before:
            raise TypeError(f"the backbone stays {before}: give from_pretrained the dtype instead")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types for it
        if moved.device != self._backbone.device:
            self._backbone.model.to(moved.device)
            self._backbone.device = moved.device
        return self


def _listed(layers: Any) -> Any:
    return list(layers) if isinstance(layers, Iterable) else layers


def folder_of(path: str | Path) -> Path:
    """A path as it is given to the saving verbs, made; raises `FileExistsError` where it is a file."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
