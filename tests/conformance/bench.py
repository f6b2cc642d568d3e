"""Everything that one backbone's cases share: the loaded backbone, one arena, and rows that are ready to run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.embeddings import TokenEmbedding
from adapters.errors import AdapterError
from adapters.methods.fold import fold
from adapters.weights import ALIGN, Package, Resident
from tests.conformance.artefacts import Shelf, gated, members
from tests.conformance.cases import Case, CaseRow, NotComparable, Output
from tests.conformance.compare import Verdict, compare, positions_count
from tests.conformance.report import CaseOutcome
from tests.conformance.tokens import Ids, backbone_tokenizer, tokenize


@dataclass(frozen=True, eq=False)
class Loaded:
    """A row with its adapters folded, not yet placed in the arena."""

    source: CaseRow
    members: tuple[Package, ...]
    head: Package | None
    ids: Ids


@dataclass(frozen=True, eq=False)
class Cargo:
    """A case's rows and the vocabulary they share."""

    rows: tuple[Loaded, ...]
    embedding: TokenEmbedding | None

    def packages(self) -> Iterator[Package]:
        """Every package, with repeats."""
        for row in self.rows:
            yield from row.members
            if row.head is not None:
                yield row.head


@dataclass(frozen=True, eq=False)
class ReadyRow:
    """A row that can run, its references, and how to compare them."""

    case: Case
    source: CaseRow
    row: Row
    loaded: Loaded
    method: str
    gated: bool

    def judge(self, wanted: Sequence[Output], outputs: Sequence[Tensor]) -> Iterator[Verdict]:
        """A verdict for every reference of the outputs that were asked for."""
        if not positions_count(self.source.mask, gated=self.gated):
            return
        for want, output in zip(wanted, outputs, strict=True):
            for expected in self.source.expected:
                if expected.output == want:
                    yield compare(output, expected, self.source.mask, self.row.insertion, self.case.tolerance)

    @property
    def wanted(self) -> tuple[Output, ...]:
        """The outputs that have a reference."""
        return tuple(sorted({expected.output for expected in self.source.expected}))


@dataclass(frozen=True, eq=False)
class Bench:
    """One backbone with every case of it that the library reads; the others are in `out` already."""

    name: str
    folder: Path
    backbone: Backbone
    ready: tuple[tuple[Case, tuple[ReadyRow, ...]], ...]
    out: tuple[CaseOutcome, ...]

    def run(self, rows: Sequence[ReadyRow], wanted: Sequence[Output]) -> tuple[list[Tensor], int]:
        """The outputs of one batch, and how many forward passes of the Hugging Face model it took."""
        passes = 0

        def count(module: nn.Module, inputs: object, output: object) -> None:
            nonlocal passes
            passes += 1

        hook = self.backbone.model.register_forward_hook(count)
        try:
            with torch.inference_mode():
                return list(self.backbone.run([row.row for row in rows], list(wanted))), passes
        finally:
            hook.remove()


def load(name: str, folder: Path, cases: Iterable[Case], scratch: Path) -> Bench:
    """Load a backbone and every case of it; what can not be read is an outcome. Raises `AdapterError` (no backbone)."""
    backbone = Backbone.load(folder, device="cpu", dtype=torch.float32)
    shelf = Shelf(backbone.profile, scratch)
    loaded: list[tuple[Case, Cargo]] = []
    out = []
    for case in cases:
        try:
            loaded.append((case, _load(case, shelf, folder)))
        except (AdapterError, NotComparable) as error:
            out.append(CaseOutcome.refused(case.id, error))
        except Exception as error:  # one broken case must not hide the others
            out.append(CaseOutcome.failed(case.id, f"{type(error).__name__}: {error}"))
    placed = settle((package for _, cargo in loaded for package in cargo.packages()), backbone)
    ready = tuple(
        (case, tuple(_ready(case, row, cargo.embedding, placed) for row in cargo.rows)) for case, cargo in loaded
    )
    return Bench(name, folder, backbone, ready, tuple(out))


def settle(packages: Iterable[Package], backbone: Backbone) -> dict[int, Resident]:
    """Every package folded, side by side in one arena of the backbone's dtype; by `id` of the package."""
    distinct = {id(package): package for package in packages}
    folded = {key: fold(package, backbone.profile, backbone.dtype) for key, package in distinct.items()}
    arena = torch.cat([torch.zeros(0, dtype=backbone.dtype), *(adapter.flat for adapter in folded.values())])
    placed, start = {}, 0
    for key, adapter in folded.items():
        placed[key] = Resident(adapter, arena, start, 1)
        start += adapter.flat.numel() // ALIGN
    return placed


def _load(case: Case, shelf: Shelf, backbone: Path) -> Cargo:
    """Read what the rows of a case name: compositions first, so that what is refused costs no conversion."""
    rows = case.rows()
    stacks = [members(row.composition, case.skip_layers) for row in rows]
    folders, head_folders = case.artefacts(), case.heads()
    heads = [_head_folder(row, stack, head_folders) for row, stack in zip(rows, stacks, strict=True)]
    needed = {folders[name] for stack in stacks for name in stack} | {folder for folder in heads if folder is not None}
    packages = {folder: shelf.read(folder) for folder in sorted(needed)}
    embedding = shelf.embedding(case.folder / case.raw["embedding"]["path"]) if case.raw.get("embedding") else None
    ids = tokenize(embedding.tokenizer_json if embedding else backbone_tokenizer(backbone), rows)
    return Cargo(
        tuple(
            Loaded(
                row, tuple(packages[folders[name]] for name in stack), None if head is None else packages[head], found
            )
            for row, stack, head, found in zip(rows, stacks, heads, ids, strict=True)
        ),
        embedding,
    )


def _head_folder(row: CaseRow, stack: tuple[str, ...], folders: Mapping[str | None, Path]) -> Path | None:
    """Folder of the row's head: the named one, that of the plain class, or that of the top adapter."""
    if not any(expected.output == "logits" for expected in row.expected):
        return None
    if row.head is not None or None in folders:
        return folders[row.head]
    return folders[stack[-1]] if stack else None


def row_of(
    loaded: Loaded, embedding: TokenEmbedding | None, placed: Mapping[int, Resident], skip_layers: tuple[int, ...]
) -> Row:
    """The library's row, with the packages where they were placed."""
    return Row(
        members=tuple(placed[id(package)] for package in loaded.members),
        head=None if loaded.head is None else placed[id(loaded.head)],
        embedding=embedding,
        input_ids=np.array(loaded.ids.input_ids, np.int64),
        type_ids=None if loaded.ids.type_ids is None else np.array(loaded.ids.type_ids, np.int64),
        skip_layers=frozenset(skip_layers),
    )


def _ready(case: Case, loaded: Loaded, embedding: TokenEmbedding | None, placed: Mapping[int, Resident]) -> ReadyRow:
    return ReadyRow(
        case=case,
        source=loaded.source,
        row=row_of(loaded, embedding, placed, case.skip_layers),
        loaded=loaded,
        method=">".join(package.manifest.method for package in loaded.members) or "none",
        gated=any(gated(package.manifest) for package in loaded.members),
    )
