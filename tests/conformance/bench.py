"""Everything that one backbone's cases share: the loaded backbone, one arena, and rows that are ready to run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from adapters.backbone import Backbone, Want
from adapters.batch.rows import Row, members_of
from adapters.embeddings import TokenEmbedding
from adapters.errors import AdapterError
from adapters.methods.fold import fold
from adapters.weights import ALIGN, Adapter, Package, Resident
from tests.conformance.artefacts import Holdings, Shelf, gated, of_case, of_setup
from tests.conformance.cases import Case, CaseRow, NotComparable
from tests.conformance.compare import Verdict, compare, positions_count
from tests.conformance.report import CaseOutcome
from tests.conformance.tokens import Ids, backbone_tokenizer, tokenize


@dataclass(frozen=True, eq=False)
class Loaded:
    """A row with its packages, not yet placed in the arena. `packages`: by the names of the row's composition."""

    source: CaseRow
    packages: Mapping[str, Package]
    head: Package | None
    ids: Ids

    @property
    def all(self) -> tuple[Package, ...]:
        """Every package of the row, with repeats."""
        return (*self.packages.values(), *(() if self.head is None else (self.head,)))

    @property
    def method(self) -> str:
        """The methods in the order written."""
        leaves = (self.packages[leaf.ref.name] for leaf in self.source.arranged.composition.leaves())
        return ">".join(package.manifest.method for package in leaves) or "none"


@dataclass(frozen=True, eq=False)
class Cargo:
    """A case's rows and the vocabulary they share."""

    rows: tuple[Loaded, ...]
    embedding: TokenEmbedding | None


@dataclass(frozen=True, eq=False)
class ReadyRow:
    """A row that can run, its references, and how to compare them."""

    case: Case
    source: CaseRow
    row: Row
    loaded: Loaded
    method: str
    gated: bool

    def judge(self, wanted: Sequence[Want], outputs: Sequence[Tensor]) -> Iterator[Verdict]:
        """A verdict for every reference of the outputs that were asked for."""
        if not positions_count(self.source.mask, gated=self.gated):
            return
        for want, output in zip(wanted, outputs, strict=True):
            for expected in self.source.expected:
                if expected.want == want:
                    yield compare(output, expected, self.source.mask_of(want), self.row.insertion, self.case.tolerance)

    @property
    def wanted(self) -> tuple[Want, ...]:
        """What has a reference."""
        return tuple(sorted({expected.want for expected in self.source.expected}))


@dataclass(frozen=True, eq=False)
class Bench:
    """One backbone with every case of it that the library reads; the others are in `out` already."""

    name: str
    folder: Path
    backbone: Backbone
    ready: tuple[tuple[Case, tuple[ReadyRow, ...]], ...]
    out: tuple[CaseOutcome, ...]

    def run(self, rows: Sequence[ReadyRow], wanted: Sequence[Want]) -> tuple[list[Tensor], int]:
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
    folded: dict[int, Adapter] = {}
    out = []
    for case in cases:
        try:
            cargo = _load(case, shelf, folder)
            folded |= fold_all((package for row in cargo.rows for package in row.all), backbone)
            loaded.append((case, cargo))
        except (AdapterError, NotComparable) as error:
            out.append(CaseOutcome.refused(case.id, error))
        except Exception as error:  # one broken case must not hide the others
            out.append(CaseOutcome.failed(case.id, f"{type(error).__name__}: {error}"))
    placed = place(folded, backbone)
    ready = []
    for case, cargo in loaded:
        try:
            ready.append((case, tuple(_ready(case, row, cargo.embedding, placed) for row in cargo.rows)))
        except AdapterError as error:
            out.append(CaseOutcome.refused(case.id, error))
    return Bench(name, folder, backbone, tuple(ready), tuple(out))


def fold_all(packages: Iterable[Package], backbone: Backbone) -> dict[int, Adapter]:
    """Every package folded for a backbone, in its dtype; by `id` of the package."""
    distinct = {id(package): package for package in packages}
    return {
        key: fold(package, backbone.profile, backbone.dtype, backbone.base_maps) for key, package in distinct.items()
    }


def place(folded: Mapping[int, Adapter], backbone: Backbone) -> dict[int, Resident]:
    """Folded adapters side by side in one arena."""
    arena = torch.cat([torch.zeros(0, dtype=backbone.dtype), *(adapter.flat for adapter in folded.values())])
    placed, start = {}, 0
    for key, adapter in folded.items():
        placed[key] = Resident(adapter, arena, start, 1)
        start += adapter.flat.numel() // ALIGN
    return placed


def _load(case: Case, shelf: Shelf, backbone: Path) -> Cargo:
    """Read what the rows of a case name: compositions first, so that what is refused costs no conversion."""
    pad = shelf.profile.geometry.pad_token_id
    rows, holdings = case.rows(pad), of_case(case, shelf, backbone)
    embedding = shelf.embedding(case.folder / case.raw["embedding"]["path"]) if case.raw.get("embedding") else None
    tokenizer = embedding.tokenizer_json if embedding else backbone_tokenizer(backbone)
    loaded = _loaded(rows, holdings, tokenizer)
    if case.setup is not None:
        setup = shelf.setup(case.setup)
        again = case.rows_of_setup(setup.composition, setup.head, pad)
        loaded += _loaded(again, of_setup(setup, shelf), tokenizer)
    return Cargo(loaded, embedding)


def _loaded(rows: Sequence[CaseRow], holdings: Holdings, tokenizer: bytes | None) -> tuple[Loaded, ...]:
    return tuple(
        Loaded(row, holdings.of(row), holdings.head(row), ids)
        for row, ids in zip(rows, tokenize(tokenizer, rows), strict=True)
    )


def row_of(loaded: Loaded, embedding: TokenEmbedding | None, placed: Mapping[int, Resident]) -> Row:
    """The library's row, with the packages where they were placed."""
    composition = loaded.source.arranged.composition
    return Row(
        members=members_of(composition, lambda ref: placed[id(loaded.packages[ref.name])]),
        head=None if loaded.head is None else placed[id(loaded.head)],
        embedding=embedding,
        input_ids=np.array(loaded.ids.input_ids, np.int64),
        type_ids=None if loaded.ids.type_ids is None else np.array(loaded.ids.type_ids, np.int64),
        skip_layers=composition.skip_layers,
        word_starts=loaded.source.word_starts,
        first_position=int(loaded.source.mask.int().argmax()),  # the models count padding on the left
        pixels=None if loaded.source.pixels is None else loaded.source.pixels.numpy(),
        decoder_ids=None if loaded.source.decoder_ids is None else np.array(loaded.source.decoder_ids, np.int64),
    )


def _ready(case: Case, loaded: Loaded, embedding: TokenEmbedding | None, placed: Mapping[int, Resident]) -> ReadyRow:
    return ReadyRow(
        case=case,
        source=loaded.source,
        row=row_of(loaded, embedding, placed),
        loaded=loaded,
        method=loaded.method,
        gated=any(gated(package.manifest) for package in loaded.packages.values()),
    )
