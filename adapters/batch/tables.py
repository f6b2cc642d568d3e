"""What adapters make of the tables in front of the layers: vectors of words, positions and segments, which are added up."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.architectures.sites import ADDED_UP, Address
from adapters.batch.linears import run_linear
from adapters.batch.plan import BatchPlan
from adapters.batch.program import Program
from adapters.batch.rows import Ids, own_tokens, positions, segment_ids
from adapters.batch.targets import row_positions, target_positions
from adapters.kernels.upload import upload

LOOKED_UP = tuple(Address(None, site) for site in ADDED_UP)
_WORDS, _DECODER_WORDS, _POSITIONS, _DECODER_POSITIONS, _SEGMENTS = LOOKED_UP
PATCHES = Address(None, "patches")


def position_ids(plan: BatchPlan, geometry: Geometry) -> Ids:
    """Places [tokens] in the table of positions."""
    after_pad = geometry.architecture.positions_after_pad
    return np.concatenate([positions(row, geometry, after_pad=after_pad) for row in plan.rows])


def type_ids(plan: BatchPlan) -> Ids:
    """Segments [tokens]."""
    return np.concatenate([segment_ids(row) for row in plan.rows])


def run_tables(plan: BatchPlan, geometry: Geometry, x: Tensor, words: Tensor, scale: float) -> Tensor:
    """Word vectors [tokens, width] from x, those of the rows' vocabularies, with what adapters make of all tables.

    words [vocabulary, width] is the frozen table, whose vectors enter the model times `scale`. The model adds its own positions and segments to what leaves here: an
    adapter's stand in their place as differences.
    """
    ids: Mapping[Address, Callable[[], Ids]] = {
        _WORDS: lambda: _word_ids(plan),
        _POSITIONS: lambda: _position_entries(plan, geometry),
        _SEGMENTS: lambda: type_ids(plan),
    }
    for address, entries in ids.items():
        program = plan.steps.get(address)
        if program:
            x = _looked_up(program, entries(), x, words, scale if address == _WORDS else 1.0)
    return x


def run_target_tables(
    plan: BatchPlan, geometry: Geometry, rows: Sequence[Ids], x: Tensor, words: Tensor, scale: float
) -> Tensor:
    """The same of a decoder's word vectors: `rows` are the ids of its own tokens, by row."""
    program, placed = plan.steps.get(_DECODER_WORDS), plan.steps.get(_DECODER_POSITIONS)
    if program:
        x = _looked_up(program, np.concatenate(rows), x, words, scale)
    if placed:
        places = [target_positions(row, ids) for row, ids in zip(plan.rows, rows, strict=True)]
        x = _looked_up(placed, np.concatenate(places) + geometry.architecture.position_offset, x, words, 1.0)
    return x


def run_patches(plan: BatchPlan, x: Tensor) -> Tensor:
    """Embeddings of images [tokens, width] with what adapters make of their patches, to which the model adds the rest."""
    program = plan.steps.get(PATCHES)
    if not program:
        return x
    patches = np.zeros(plan.layout.tokens, np.int64)
    for row, start in zip(plan.rows, plan.layout.starts, strict=False):
        patches[own_tokens(row)[1:] + start] = 1  # all but the class token
    return run_linear(program, upload(torch.from_numpy(patches), x.device)[:, None], x, x.new_zeros(x.shape[1], 2))


def _position_entries(plan: BatchPlan, geometry: Geometry) -> Ids:
    """Entries [tokens] of the table of positions, which some families begin with others."""
    if not geometry.architecture.positions:
        return position_ids(plan, geometry)
    return np.concatenate([row_positions(row) for row in plan.rows]) + geometry.architecture.position_offset


def _looked_up(program: Program, ids: Ids, x: Tensor, words: Tensor, scale: float) -> Tensor:
    """x [tokens, width] with what a program makes of it before it is scaled."""
    entries = upload(torch.from_numpy(ids), x.device)[:, None]
    return (
        run_linear(program, entries, x, words.T)
        if scale == 1.0
        else run_linear(program, entries, x / scale, words.T) * scale
    )


def _word_ids(plan: BatchPlan) -> Ids:
    """Token ids [tokens], 0 where a prompt is put in."""
    ids = np.zeros(plan.layout.tokens, np.int64)
    for i, row in enumerate(plan.rows):
        ids[own_tokens(row) + plan.layout.starts[i]] = row.input_ids
    return ids
