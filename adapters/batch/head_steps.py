"""The heads of a pass: which of them run together, and which states they read."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.batch.program import Act, Entry, operand_of, stacked
from adapters.batch.rows import EMBED_OUT, Ids, Row, leaves, own_tokens, pooled_token
from adapters.batch.segments import RowLayout, layout_of, segments_of
from adapters.batch.targets import eos_place, is_whole
from adapters.batch.workspace import Ranges, Workspace
from adapters.heads.base import TrainedWords
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.kernels.upload import upload
from adapters.manifest import ENCODER_TOKENS, PER_TOKEN, HeadSpec
from adapters.methods.base import Operand
from adapters.methods.table import INVERSE
from adapters.methods.word_rows import WORD_ROWS, WORDS
from adapters.weights import Resident

Space = Callable[[int], Workspace]  # of so many tokens


@dataclass(frozen=True, eq=False)
class HeadStep:
    """Rows whose heads have one shape. `places` [n] tells which states the heads read: tokens, or first tokens.

    `runs` are over these n states; `ranges` are each row's among them. `undo` is the inverse of the rows' invertible
    adapters, for heads over the vocabulary; `trained` are the words that rows' adapters bring, for those tied to the table.
    """

    spec: HeadSpec
    rows: tuple[int, ...]  # in plan order
    places: Tensor
    ranges: Ranges
    runs: Runs
    params: Mapping[str, Stacked]
    undo: Callable[[Tensor], Tensor] | None
    whole: bool = False  # a head for rows that reads all of their states, see `targets.is_whole`
    counts: tuple[int, ...] | None = None  # of a head for means: how many of the places are each row's
    trained: tuple[TrainedWords | None, ...] = ()

    def read(self, states: Tensor) -> Tensor:
        """What the heads read [n, hidden] of the states [tokens, hidden] of a pass."""
        found = states[self.places]
        if self.counts is not None:
            counts = torch.tensor(self.counts)
            owners = upload(torch.repeat_interleave(torch.arange(len(counts)), counts), found.device)
            sums = found.new_zeros(len(counts), found.shape[1], dtype=torch.float32).index_add(0, owners, found.float())
            found = (sums / upload(counts, found.device).unsqueeze(1)).to(found.dtype)
        return found if self.spec.scale is None else found * self.spec.scale


def head_steps(
    rows: Sequence[Row],
    wanted: tuple[int, ...],
    layouts: tuple[RowLayout, RowLayout | None],
    pooled: tuple[int, ...],
    geometry: Geometry,
    space: Space,
    targets: Sequence[Ids],
) -> tuple[HeadStep, ...]:
    """Heads of one shape together. `layouts`: where the rows lie, and where an encoder-decoder's decoder's do."""
    layout = layouts[1] or layouts[0]
    groups: dict[tuple[Hashable, Hashable, bool], list[int]] = {}
    for i in wanted:
        inverse = _inverse(rows[i])
        whole = bool(targets) and is_whole(rows[i], targets[i], spec_of(rows[i]).pooling)
        kin = (_head(rows[i]).adapter.head_kin, None if inverse is None else inverse.block.kin, whole)
        groups.setdefault(kin, []).append(i)
    place = {row: at for at, row in enumerate(pooled)}
    for i in wanted:
        pooling = spec_of(rows[i]).pooling
        if pooling == "last_eos":
            place[i] = layout.starts[i] + (
                0 if is_whole(rows[i], targets[i], pooling) else eos_place(rows[i], geometry)
            )
        elif pooling not in ("pooler", *PER_TOKEN, "mean"):
            place[i] = layout.starts[i] + pooled_token(rows[i], geometry, pooling)
    return tuple(_head_step(rows, members, layouts, place, space, whole=kin[2]) for kin, members in groups.items())


def _head_step(
    rows: Sequence[Row],
    members: list[int],
    layouts: tuple[RowLayout, RowLayout | None],
    state_of: Mapping[int, int],
    space: Space,
    *,
    whole: bool,
) -> HeadStep:
    members = sorted(members, key=lambda i: id(_head(rows[i])))  # what heads read stands in any order
    spec = spec_of(rows[members[0]])
    layout = layouts[0] if spec.pooling == ENCODER_TOKENS else layouts[1] or layouts[0]
    counts: tuple[int, ...] | None = None
    if spec.pooling == "mean":
        bounds = [layout.bounds(i) for i in members]
        counts = tuple(end - start for start, end in bounds)
        places, starts = torch.cat([torch.arange(*own) for own in bounds]), tuple(range(len(members) + 1))
    elif spec.pooling in PER_TOKEN or whole:
        parts = [_places(rows[i], *layout.bounds(i)) for i in members]
        places, starts = torch.cat(parts), layout_of(map(len, parts)).starts
    else:  # one state per row
        places, starts = torch.tensor([state_of[i] for i in members]), tuple(range(len(members) + 1))
    ranges = tuple(pairwise(starts))
    states = space(starts[-1])
    segments = segments_of([id(_head(rows[i])) for i in members])
    owners = [_head(rows[members[segment.first]]) for segment in segments]
    held = tuple((starts[segment.first], starts[segment.last]) for segment in segments)
    params = stacked(owners, [owner.adapter.head_spans for owner in owners])
    undo = _undo([rows[i] for i in members], ranges, states)
    trained = tuple(_trained(rows[i], states.device) for i in members) if spec.tied else ()
    return HeadStep(
        spec,
        tuple(members),
        upload(places, states.device),
        ranges,
        states.runs(held, ranges),
        params,
        undo,
        whole,
        counts,
        trained,
    )


def _places(row: Row, start: int, end: int) -> Tensor:
    """The states that a per-token head reads: all of the row, or those of the own tokens that were asked for.

    Nothing is put into a decoder's row. Words are counted from the first state, even where that is a prompt's: AdapterHub
    trains its parsers so.
    """
    if row.positions is not None and end - start != row.length:
        return torch.tensor(row.positions) + start
    if row.positions is not None:
        return torch.from_numpy(own_tokens(row)[list(row.positions)] + start)
    return torch.arange(start, end)


def _inverse(row: Row) -> Act | None:
    """The first adapter's invertible block, where the row's head reads the vocabulary."""
    if row.first is None or spec_of(row).vocabulary is None or not spec_of(row).inverse:
        return None
    blocks = row.first.adapter.blocks.get(EMBED_OUT, ())
    return next((Act((row.first,), block) for block in blocks if block.method in INVERSE), None)


def _trained(row: Row, device: torch.device) -> TrainedWords | None:
    """The words that one of the row's adapters brings some vectors of; at most one does (`chains`)."""
    if row.embedding is not None:
        return None
    for resident in leaves(row.members):
        for block in resident.adapter.blocks.get(WORDS, ()):
            if block.method == WORD_ROWS.name and isinstance(block.variant, tuple):
                vectors = stacked([resident], [block.spans])["rows"].one(0)
                return TrainedWords(upload(torch.tensor(block.variant), device), vectors)
    return None


def _undo(rows: Sequence[Row], ranges: Ranges, space: Workspace) -> Callable[[Tensor], Tensor] | None:
    acts = [_inverse(row) for row in rows]
    found = [(Entry(((held,),), (act,)), act) for act, held in zip(acts, ranges, strict=True) if act is not None]
    if not found:
        return None
    return partial(_invert, found[0][1].block.method, operand_of(found, space))


def _invert(method: str, operand: Operand, x: Tensor) -> Tensor:
    return INVERSE[method].invert(x, operand)


def _head(row: Row) -> Resident:
    assert row.head is not None
    return row.head


def spec_of(row: Row) -> HeadSpec:
    """The specification of the head that a row has."""
    spec = None if row.head is None else row.head.adapter.head
    assert spec is not None
    return spec
