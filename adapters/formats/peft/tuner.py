"""What a tuner of PEFT is to a folder: which settings are its own, and how its tensors become a part and tensors again.

A tuner is one file, and one line in `table`. Those that adapt linear maps one by one share `linear`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from adapters.formats.peft.host import ROOT, Host
from adapters.formats.peft.tasks import ALONE, Task
from adapters.manifest import PartSpec
from adapters.weights import Package


@dataclass(frozen=True, eq=False)
class Saved:
    """What a folder holds: its configuration, and its tensors under PEFT's keys. `task`: which of its tasks is read."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    host: Host
    task: Task = ALONE


@dataclass(frozen=True, eq=False)
class Found:
    """What a tuner made of a folder. `rest`: the tensors below the root that are not its own, which may be a head's."""

    parts: tuple[PartSpec, ...]
    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Written:
    """A package in PEFT's terms: tensors under their keys, and the tuner's members of a configuration.

    None: the only configuration is that of the folder which the package was read from. `root` stands before the keys of
    a head beside it.
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None
    root: str = ROOT


class Tuner(Protocol):
    """One `peft_type`."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The native methods of the parts that it reads and writes."""
        ...

    @property
    def settings(self) -> frozenset[str]:
        """Its own settings: those that are read, and those that say nothing about what a trained adapter computes."""
        ...

    def refused(self, config: Mapping[str, Any]) -> list[str]:
        """Every reason for which a configuration is refused before tensors are looked at."""
        ...

    def read(self, saved: Saved, reasons: list[str]) -> Found:
        """The parts and their tensors; what is wrong is added to `reasons`."""
        ...

    def write(self, package: Package, host: Host) -> Written:
        """The tensors of the package's parts, and a configuration that PEFT reads as the same parts; raises `Misfit`."""
        ...
