"""The library's public path from a source library's folders to packages: read or convert, write, read again, check."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from adapters.architectures.profile import BackboneProfile
from adapters.embeddings import TokenEmbedding, token_embedding
from adapters.errors import UnsafeFile
from adapters.formats import check, converter, language_head, native, recognise
from adapters.formats.adapterhub import setup
from adapters.formats.adapterhub.setup import Setup
from adapters.manifest import Manifest
from adapters.weights import Package
from tests.conformance.arrangement import Named
from tests.conformance.cases import Case, CaseRow

Reader = Callable[[], Package]


# Under which PEFT's models were loaded when its cases were made: parts that it leaves out of heads were drawn with it.
# No case says so; the logits of both cases with such parts tell it.
HEAD_SEED = 4242


@dataclass(frozen=True, eq=False)
class Shelf:
    """Reads artefacts for one backbone. `scratch` holds what is converted and written on the way."""

    profile: BackboneProfile
    scratch: Path

    def read(self, folder: Path, task_id: int | None = None) -> Package:
        """A folder as a checked package that went through the native format; raises `AdapterError`."""
        said: dict[str, Any] = {"head_seed": HEAD_SEED, "task_id": task_id}
        try:
            package = recognise.read(folder, self.profile, **said)
        except UnsafeFile:
            package = recognise.read(converter.convert(folder, self._place()), self.profile, **said)
        return self.through_native(package)

    def setup(self, folder: Path) -> Setup:
        """A saved setup as the library reads it; raises `AdapterError`."""
        try:
            return setup.read(folder, self.profile)
        except UnsafeFile:
            return setup.read(converter.convert(folder, self._place()), self.profile)

    def through_native(self, package: Package) -> Package:
        """A package written as a native file, read again, and checked."""
        path = self._place() / "package.safetensors"
        path.write_bytes(native.write(package))
        again = native.read(path)
        check.check(again, self.profile)
        return again

    def language_head(self, backbone: Path) -> Package:
        """The head of a backbone's own checkpoint."""
        return self.through_native(language_head.read(backbone, self.profile))

    def embedding(self, folder: Path) -> TokenEmbedding:
        """A folder as a vocabulary with its matrix."""
        return token_embedding(self.read(folder), torch.float32)

    def _place(self) -> Path:
        place = self.scratch / str(sum(1 for _ in self.scratch.iterdir()))
        place.mkdir()
        return place


@dataclass(frozen=True, eq=False)
class Holdings:
    """Where the names of a case lead; a package is read when it is first asked for.

    `own`: the head of the class that a case was computed with, where no artefact holds it but the backbone.
    """

    members: Mapping[Named, Reader]
    heads: Mapping[str | None, Reader]
    own: Reader | None = None

    def of(self, row: CaseRow) -> dict[str, Package]:
        """The packages of a row's composition, by stand-in."""
        return {alias: self.members[named]() for alias, named in row.arranged.names.items()}

    def head(self, row: CaseRow) -> Package | None:
        """The row's head: the named one, that of the plain class, or that of the top adapter."""
        if all(expected.want != "logits" for expected in row.expected):
            return None
        arranged = row.arranged
        named = arranged.head if arranged.head is not None or None in self.heads else arranged.top
        found = None if named is None and None not in self.heads else self.heads[named]()
        if self.own is not None and (found is None or found.manifest.head is None):
            return self.own()
        return found


def of_case(case: Case, shelf: Shelf, backbone: Path) -> Holdings:
    """The folders that a case lists, each read once."""
    read = cache(partial(shelf.read, task_id=case.raw.get("task_id")))
    members: dict[Named, Reader] = {("adapter", name): partial(read, path) for name, path in case.artefacts().items()}
    members |= {("fusion", name): partial(read, path) for name, path in case.fusions().items()}
    own = cache(partial(shelf.language_head, backbone)) if case.own_head else None
    return Holdings(members, {name: partial(read, path) for name, path in case.heads().items()}, own)


def of_setup(found: Setup, shelf: Shelf) -> Holdings:
    """The packages of a saved setup."""
    through = cache(shelf.through_native)
    adapters = {name: partial(through, package) for name, package in found.adapters.items()}
    members: dict[Named, Reader] = {("adapter", name): reader for name, reader in adapters.items()}
    members |= {("fusion", name): partial(through, package) for name, package in found.fusions.items()}
    heads: dict[str | None, Reader] = dict(adapters.items())
    heads |= {name: partial(through, package) for name, package in found.heads.items()}
    return Holdings(members, heads)


def gated(manifest: Manifest) -> bool:
    """Whether a gate is anywhere in an adapter's configuration."""
    return _holds_gate(manifest.source) or any(_holds_gate(part.config) for part in manifest.parts)


def _holds_gate(value: Any) -> bool:
    if isinstance(value, Mapping):
        gates = bool(value.get("use_gating") or value.get("gated")) or value.get("gating") in ("shared", "separate")
        return gates or any(_holds_gate(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_holds_gate(item) for item in value)
